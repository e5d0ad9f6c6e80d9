//! Values in log lines: quoted and escaped so that one line stays one line whatever a stranger sends.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::UnixTime;

/// How log lines look, access lines and events alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object (RFC 8259) per line.
    Json,
    /// `name=value` pairs, for people.
    Text,
}

/// A text longer than this many bytes is cut and ends in `…`: a stranger's path does not fill the disk.
const LONGEST_TEXT: usize = 2048;

/// Writes a JSON string (RFC 8259 §7) with its quotes. Beyond what JSON asks for, characters that confuse a terminal are escaped too.
pub(super) fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let (text, cut) = shorten(text);
    if text.bytes().all(is_plain) {
        out.extend_from_slice(text.as_bytes());
    } else {
        for character in text.chars() {
            push_character(out, character);
        }
    }
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

/// Writes a value of a text line: as it is where nothing in it could be mistaken, else quoted.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    let bare = !text.is_empty() && text.len() <= LONGEST_TEXT && text.bytes().all(|byte| is_plain(byte) && byte != b' ' && byte != b'=');
    if bare { out.extend_from_slice(text.as_bytes()) } else { push_quoted(out, text) }
}

/// A whole number in decimal.
pub(super) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let start = out.len();
    loop {
        // A remainder below ten always fits.
        out.push(b'0' + u8::try_from(number % 10).unwrap_or(0));
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// A duration in milliseconds with three decimals.
pub(super) fn push_millis(out: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    push_number(out, micros / 1000);
    push_thousandths(out, micros % 1000);
}

/// An address without quotes; it holds nothing that needs any.
pub(super) fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_number(out, u64::from(octet));
            }
        }
        IpAddr::V6(address) => out.extend_from_slice(address.to_string().as_bytes()),
    }
}

/// Times of day, with the text of the second kept: most lines share it with the line before.
#[derive(Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    text: String,
}

impl Stamp {
    /// RFC 3339 in UTC with milliseconds.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, at: SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.text = UnixTime(since.as_secs()).to_string();
            if self.text.ends_with('Z') {
                self.text.pop();
            }
        }
        out.extend_from_slice(self.text.as_bytes());
        push_thousandths(out, u64::from(since.subsec_millis()));
        out.push(b'Z');
    }
}

fn push_thousandths(out: &mut Vec<u8>, thousandths: u64) {
    out.push(b'.');
    if thousandths < 100 {
        out.push(b'0');
    }
    if thousandths < 10 {
        out.push(b'0');
    }
    push_number(out, thousandths);
}

/// Printable ASCII that means itself between quotes.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn push_character(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        _ if misleads(character) => {
            // All of these lie below U+10000: one escape each.
            let code = u32::from(character);
            out.extend_from_slice(format!("\\u{code:04x}").as_bytes());
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Control characters, line and paragraph separators, and what turns the direction of text around or is not seen at all.
fn misleads(character: char) -> bool {
    character.is_control() || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn shorten(text: &str) -> (&str, bool) {
    if text.len() <= LONGEST_TEXT {
        return (text, false);
    }
    let mut end = LONGEST_TEXT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (text.get(..end).unwrap_or_default(), true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn a_quoted_text_reads_back_as_it_was(text: String) {
            let quoted = written(|out| push_quoted(out, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
            prop_assert!(!quoted.chars().any(misleads));
        }

        #[test]
        fn a_text_value_never_holds_a_line_end_or_a_second_pair(text: String) {
            let value = written(|out| push_text(out, &text));
            prop_assert!(value.lines().count() == 1 && !value.chars().any(misleads));
            prop_assert!(value.starts_with('"') || !value.contains([' ', '=', '"']));
        }

        #[test]
        fn numbers_are_written_as_the_standard_library_writes_them(number: u64) {
            prop_assert_eq!(written(|out| push_number(out, number)), number.to_string());
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let quoted = written(|out| push_quoted(out, &"é".repeat(2000)));
        assert!(quoted.len() < LONGEST_TEXT + 8 && quoted.ends_with("é…\""));
    }

    #[test]
    fn times_and_durations_carry_three_decimals() {
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_042);
        assert_eq!(written(|out| Stamp::default().push(out, at)), "2023-11-14T22:13:20.042Z");
        assert_eq!(written(|out| push_millis(out, Duration::from_micros(12_007))), "12.007");
        assert_eq!(written(|out| push_address(out, "192.0.2.10".parse().unwrap())), "192.0.2.10");
        assert_eq!(written(|out| push_address(out, "2001:db8::1".parse().unwrap())), "2001:db8::1");
    }
}
