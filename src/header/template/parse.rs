//! Reading a template.

use super::form::{Coding, Form, Quotes};
use super::source::Source;
use super::{HeaderFile, HeaderTemplate, Piece};
use crate::identity::ClaimPath;

/// Makes a file of a path, or says what is wrong with it; how files are read is no matter of this floor.
pub type OpenFile<'a> = &'a dyn Fn(&str) -> Result<HeaderFile, String>;

const EXPECTED: &str =
    "{user}, {email}, {groups}, {claims.PATH}, {access_token}, {id_token}, {session.expires_at}, {file:/PATH} or {basic:NAME:/PATH}";
/// What may stand between the items of a list: no letters, so that items stay readable.
const SEPARATORS: &str = ",;|: /!&*+=~#@^.-_";

impl HeaderTemplate {
    /// Reads a template. Files are opened by `open`.
    ///
    /// # Errors
    /// What is wrong with it and what would be right.
    pub fn parse(text: &str, open: OpenFile<'_>) -> Result<Self, String> {
        let pieces = pieces(text, open)?;
        if pieces.is_empty() {
            return Err("expected a template such as \"{claims.tenant}\"".to_owned());
        }
        Ok(Self(pieces))
    }
}

fn pieces(text: &str, open: OpenFile<'_>) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            pieces.push(literal(before)?);
        }
        let (inner, after) = braced(after).ok_or("expected a closing } in the template")?;
        pieces.push(value(inner, open)?);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(literal(rest)?);
    }
    Ok(pieces)
}

/// What stands before the brace that closes, and what follows it; braces inside belong together.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((text.get(..at)?, text.get(at + 1..)?));
        }
    }
    None
}

fn literal(text: &str) -> Result<Piece, String> {
    if text.contains('}') || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(format!("expected printable ASCII around {EXPECTED}; found {text:?}"));
    }
    Ok(Piece::Literal(text.to_owned()))
}

fn value(inner: &str, open: OpenFile<'_>) -> Result<Piece, String> {
    if let Some(credentials) = inner.strip_prefix("basic:") {
        return basic(credentials, open);
    }
    let (name, filters) = inner.split_at(inner.find('|').unwrap_or(inner.len()));
    let source = match name {
        "user" => Source::User,
        "email" => Source::Email,
        "groups" => Source::Groups,
        "access_token" => Source::AccessToken,
        "id_token" => Source::IdToken,
        "session.expires_at" => Source::SessionEnd,
        _ => match (name.strip_prefix("claims.").and_then(ClaimPath::parse), name.strip_prefix("file:")) {
            (Some(path), _) if !name.contains('{') => Source::Claim(path),
            (None, Some(path)) => Source::File(open(absolute(path)?)?),
            _ => return Err(format!("expected {EXPECTED}; found {{{inner}}}")),
        },
    };
    let lists = matches!(source, Source::Groups | Source::Claim(_));
    let form = form(filters, lists)?;
    if let (Source::File(file), Coding::Percent) = (&source, form.coding) {
        let sound = file.text().is_ok_and(|text| text.expose().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        if !sound {
            return Err(format!("{file:?} does not hold one line of printable ASCII; write {{{name}|base64}}, or another file"));
        }
    }
    Ok(Piece::Value(source, form))
}

/// `|join(;)|base64|quoted`, each once and in this order.
fn form(filters: &str, lists: bool) -> Result<Form, String> {
    let mut form = Form::default();
    let mut rest = filters;
    let mut done = 0;
    while let Some(after) = rest.strip_prefix('|') {
        let (step, after) = if let Some(after) = after.strip_prefix("join(") {
            let (separator, after) = after.split_once(')').ok_or("expected a closing ) after |join(")?;
            if separator.is_empty() || separator.len() > 3 || !separator.chars().all(|c| SEPARATORS.contains(c)) {
                return Err(format!("expected one to three of {SEPARATORS:?} in |join(…); found {separator:?}"));
            }
            separator.clone_into(&mut form.separator);
            (1, after)
        } else if let Some(after) = after.strip_prefix("join") {
            (1, after)
        } else if let Some(after) = after.strip_prefix("base64") {
            form.coding = Coding::Base64;
            (2, after)
        } else if let Some(after) = after.strip_prefix("quoted") {
            form.quotes = Quotes::Around;
            (3, after)
        } else {
            return Err(format!("expected the filters |join, |join(;), |base64 or |quoted; found {rest:?}"));
        };
        if step <= done {
            return Err("expected each filter once and in the order |join |base64 |quoted".to_owned());
        }
        if step == 1 && !lists {
            return Err("expected |join on {groups} or {claims.PATH}, which may be lists".to_owned());
        }
        done = step;
        rest = after;
    }
    if !rest.is_empty() {
        return Err(format!("expected the filters |join, |join(;), |base64 or |quoted; found {rest:?}"));
    }
    Ok(form)
}

fn basic(credentials: &str, open: OpenFile<'_>) -> Result<Piece, String> {
    let mut depth = 0;
    let colon = credentials.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        *c == ':' && depth == 0
    });
    let (name, path) = colon
        .and_then(|(at, _)| Some((credentials.get(..at)?, credentials.get(at + 1..)?)))
        .ok_or("expected a name, a colon and the path of the file with the password, such as {basic:{user}:/run/secrets/password}")?;
    let name = pieces(name, open)?;
    let plain = |piece: &Piece| match piece {
        Piece::Literal(_) => true,
        Piece::Value(Source::User | Source::Email | Source::Claim(_), form) => *form == Form::default(),
        Piece::Value(..) | Piece::Basic(..) => false,
    };
    if name.is_empty() || !name.iter().all(plain) {
        return Err("expected a name, {user}, {email} or {claims.PATH} without filters as the name in {basic:NAME:/PATH}".to_owned());
    }
    Ok(Piece::Basic(name, open(absolute(path)?)?))
}

fn absolute(path: &str) -> Result<&str, String> {
    if path.starts_with('/') && !path.contains(['{', '}', '|']) {
        return Ok(path);
    }
    Err(format!("expected the absolute path of a file, such as /run/secrets/key; found {path:?}"))
}
