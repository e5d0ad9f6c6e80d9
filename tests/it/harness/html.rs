//! As much HTML as a test needs: forms, links and the text of a page. A scanner of tags, no parser of documents.

/// A form of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// The `action`, as written; empty when absent (the page's own URL).
    pub action: String,
    /// The `method`, in upper case.
    pub method: String,
    /// Name and value of what would be sent: inputs, checked boxes, selected options, text areas.
    pub fields: Vec<(String, String)>,
    /// Name and value of the buttons that send it (both may be empty).
    pub buttons: Vec<(String, String)>,
    /// Names of the inputs that hide what is typed.
    pub password_fields: Vec<String>,
}

impl Form {
    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A start tag, in order of the page, with the text that follows it.
#[derive(Clone, Debug)]
pub struct Tag {
    /// Its name in lower case; of an end tag with a leading `/`.
    pub name: String,
    /// Its attributes, names in lower case, values decoded.
    pub attributes: Vec<(String, String)>,
    /// The text until the next tag, decoded.
    pub text: String,
}

impl Tag {
    /// The value of an attribute; empty for one without.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// All forms of a page.
#[must_use]
pub fn forms(html: &str) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::new();
    let mut inside = false;
    let mut select = String::new();
    for tag in tags(html) {
        let attribute = |name: &str| tag.attribute(name).unwrap_or_default().to_owned();
        if tag.name == "form" {
            inside = true;
            let method = attribute("method").to_ascii_uppercase();
            forms.push(Form {
                action: attribute("action"),
                method: if method.is_empty() { "GET".to_owned() } else { method },
                ..Form::default()
            });
        }
        if tag.name == "/form" {
            inside = false;
        }
        let Some(form) = forms.last_mut().filter(|_| inside && tag.attribute("disabled").is_none()) else { continue };
        let name = attribute("name");
        let kind = attribute("type").to_ascii_lowercase();
        match (tag.name.as_str(), kind.as_str()) {
            ("input", "submit" | "image") => form.buttons.push((name, attribute("value"))),
            ("button", "submit" | "") => form.buttons.push((name, attribute("value"))),
            ("input", "button" | "reset") | ("button", _) => {}
            ("input", "checkbox" | "radio") if name.is_empty() || tag.attribute("checked").is_none() => {}
            ("input", "checkbox" | "radio") => form.fields.push((name, tag.attribute("value").unwrap_or("on").to_owned())),
            ("input", _) if !name.is_empty() => {
                if kind == "password" {
                    form.password_fields.push(name.clone());
                }
                form.fields.push((name, attribute("value")));
            }
            ("textarea", _) if !name.is_empty() => form.fields.push((name, tag.text.clone())),
            ("select", _) => select = name,
            ("option", _) if !select.is_empty() => {
                let value = tag.attribute("value").map_or_else(|| tag.text.trim().to_owned(), str::to_owned);
                let first = form.field(&select).is_none();
                if first {
                    form.fields.push((select.clone(), value));
                } else if tag.attribute("selected").is_some() {
                    form.fields.retain(|(found, _)| *found != select);
                    form.fields.push((select.clone(), value));
                }
            }
            _ => {}
        }
    }
    forms
}

/// The links of a page: `href` and text.
#[must_use]
pub fn links(html: &str) -> Vec<(String, String)> {
    let all = tags(html);
    let mut links = Vec::new();
    for (index, tag) in all.iter().enumerate() {
        if let ("a", Some(href)) = (tag.name.as_str(), tag.attribute("href")) {
            let text: String = all[index..].iter().take_while(|tag| tag.name != "/a").map(|tag| tag.text.as_str()).collect();
            links.push((href.to_owned(), squeeze(&text)));
        }
    }
    links
}

/// What a person reads, white space squeezed.
#[must_use]
pub fn text(html: &str) -> String {
    let parts: Vec<String> =
        tags(html).into_iter().filter(|tag| !matches!(tag.name.as_str(), "script" | "style" | "title")).map(|tag| tag.text).collect();
    squeeze(&parts.join(" "))
}

/// The title of a page.
#[must_use]
pub fn title(html: &str) -> String {
    tags(html).into_iter().find(|tag| tag.name == "title").map(|tag| squeeze(&tag.text)).unwrap_or_default()
}

/// All tags of a page in order; text before the first belongs to a tag without a name.
#[must_use]
pub fn tags(html: &str) -> Vec<Tag> {
    let mut tags = vec![Tag { name: String::new(), attributes: Vec::new(), text: String::new() }];
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        push_text(&mut tags, &rest[..start]);
        rest = &rest[start..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        if !rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') {
            push_text(&mut tags, "<");
            rest = &rest[1..];
            continue;
        }
        let (tag, after) = read_tag(&rest[1..]);
        rest = after;
        let name = tag.name.clone();
        tags.push(tag);
        // Their content is not markup.
        if matches!(name.as_str(), "script" | "style" | "title" | "textarea") {
            let end = find_end_tag(rest, &name);
            let content = &rest[..end];
            let raw = matches!(name.as_str(), "script" | "style");
            if let Some(tag) = tags.last_mut() {
                tag.text = if raw { content.to_owned() } else { decode(content) };
            }
            rest = &rest[end..];
        }
    }
    push_text(&mut tags, rest);
    tags
}

fn push_text(tags: &mut [Tag], text: &str) {
    if let Some(tag) = tags.last_mut() {
        tag.text.push_str(&decode(text));
    }
}

fn find_end_tag(html: &str, name: &str) -> usize {
    let wanted = format!("</{name}");
    html.to_ascii_lowercase().find(&wanted).unwrap_or(html.len())
}

/// Reads a tag after its `<`.
fn read_tag(html: &str) -> (Tag, &str) {
    let name_end = html.find(|c: char| c.is_whitespace() || c == '>' || (c == '/' && !html.starts_with('/'))).unwrap_or(html.len());
    let mut tag = Tag { name: html[..name_end].to_ascii_lowercase(), attributes: Vec::new(), text: String::new() };
    let mut rest = &html[name_end..];
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if let Some(after) = rest.strip_prefix('>') {
            return (tag, after);
        }
        if rest.is_empty() {
            return (tag, rest);
        }
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | '>' | '/')).unwrap_or(rest.len()).max(1);
        let name = rest[..end].to_ascii_lowercase();
        rest = rest[end..].trim_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            (value, rest) = match after.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    let inner = &after[1..];
                    let end = inner.find(quote).unwrap_or(inner.len());
                    (&inner[..end], inner.get(end + 1..).unwrap_or_default())
                }
                _ => after.split_at(after.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(after.len())),
            };
        }
        tag.attributes.push((name, decode(value)));
    }
}

/// Resolves character references: the numeric ones and the names that escapers use.
#[must_use]
pub fn decode(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        decoded.push_str(&rest[..start]);
        rest = &rest[start..];
        let found = rest.find(';').filter(|end| *end <= 10).and_then(|end| Some((reference(&rest[1..end])?, end)));
        if let Some((character, end)) = found {
            decoded.push(character);
            rest = &rest[end + 1..];
        } else {
            decoded.push('&');
            rest = &rest[1..];
        }
    }
    decoded.push_str(rest);
    decoded
}

fn reference(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        _ => return None,
    })
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
