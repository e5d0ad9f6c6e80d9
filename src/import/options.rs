//! Every option of oauth2-proxy 7.15, one row each: what shape its values have and what becomes of it here.

mod rows;

/// The shape of an option's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--flag`, `--flag=false`.
    Switch,
    /// One value; the last counts.
    Text,
    /// Several, repeated or with commas; the key in TOML and the variable are plural.
    List,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The code in `map` carries it over.
    Mapped,
    /// It is so here without a key.
    Same(&'static str),
    /// It is otherwise here, on purpose.
    Different(&'static str),
    /// Nothing stands for it; the text says what comes nearest.
    Missing(&'static str),
    /// A switch that is off here: the text speaks of those who turned it on.
    OffHere(Verdict),
    /// A switch that is on here: the text speaks of those who turned it off.
    OnHere(Verdict),
}

/// What is said of a switch that is turned the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Otherwise here, on purpose.
    Different(&'static str),
    /// Nothing stands for it.
    Missing(&'static str),
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    /// As a flag, without dashes.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// What becomes of it.
    pub fate: Fate,
}

impl OptionRow {
    /// Its key in TOML: underscores, and an `s` where it takes several.
    #[must_use]
    pub fn key(&self) -> String {
        let key = self.name.replace('-', "_");
        if self.kind == Kind::List && !key.ends_with('s') && !key.ends_with("regex") { format!("{key}s") } else { key }
    }
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static OptionRow> {
    rows::ALL.iter().copied().flatten()
}

/// By a flag's name.
#[must_use]
pub fn by_flag(name: &str) -> Option<&'static OptionRow> {
    all().find(|row| row.name == name)
}

/// By a key in TOML, or a variable's name in lower case without its prefix; of lists the singular is known too.
#[must_use]
pub fn by_key(key: &str) -> Option<&'static OptionRow> {
    all().find(|row| row.key() == key || row.name.replace('-', "_") == key)
}

/// The option that somebody who wrote `name` may have meant.
#[must_use]
pub fn nearest(name: &str) -> Option<&'static str> {
    let wanted = name.replace('_', "-");
    let best = all().map(|row| (distance(row.name, &wanted), row.name)).min()?;
    (best.0 <= 1 + wanted.len() / 8).then_some(best.1)
}

/// Single letters to put in, take out or change.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut before = index + 1;
        let mut next = vec![before];
        for ((other, above), diagonal) in right.iter().zip(row.iter().skip(1)).zip(&row) {
            before = (diagonal + usize::from(letter != *other)).min(above + 1).min(before + 1);
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plural_where_an_option_takes_several() {
        for (flag, key) in [
            ("upstream", "upstreams"),
            ("email-domain", "email_domains"),
            ("skip-auth-regex", "skip_auth_regex"),
            ("redis-cluster-connection-urls", "redis_cluster_connection_urls"),
            ("client-id", "client_id"),
        ] {
            assert_eq!(by_flag(flag).unwrap().key(), key);
            assert_eq!(by_key(key).unwrap().name, flag);
        }
        assert_eq!(by_key("google_group").unwrap().name, "google-group");
    }

    #[test]
    fn a_slip_of_the_pen_is_told_from_another_option() {
        assert_eq!(nearest("cookie-domian"), Some("cookie-domain"));
        assert_eq!(nearest("email_domain"), Some("email-domain"));
        assert_eq!(nearest("make-coffee"), None);
    }

    #[test]
    fn no_option_stands_twice() {
        let mut names: Vec<_> = all().map(|row| row.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
