//! A command line, or a shell script, in words: quotes, backslashes, lines that go on.

/// The words of a text. Comments are left out; line ends part words like spaces, unless a backslash stands before them.
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match (c, quote) {
            ('\'', None) | ('"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            // In single quotes a backslash is itself; in double quotes it is where nothing special follows.
            ('\\', None | Some('"')) => match letters.next() {
                Some('\n') => {}
                Some('\r') if letters.peek() == Some(&'\n') => drop(letters.next()),
                Some(next) => {
                    let word = word.get_or_insert_default();
                    if quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`') {
                        word.push('\\');
                    }
                    word.push(next);
                }
                None => {}
            },
            ('#', None) if word.is_none() => while letters.next_if(|c| *c != '\n').is_some() {},
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
