//! `[pages]`: how pages look.

use super::reader::Section;
use crate::secret;

/// How pages look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// The site's name.
    pub title: String,
    /// A `data:` URI.
    pub logo: Option<String>,
    /// `#rrggbb`.
    pub accent: String,
    /// Plain text for whoever signs in or is stopped.
    pub notice: Option<String>,
    /// Where those find help.
    pub help_url: Option<String>,
}

pub(super) fn read(root: &Section<'_>) -> Pages {
    let section = root.section("pages");
    let title = section.text("title").unwrap_or_else(|| "Sign in".to_owned());
    let accent = section.parsed("accent", |text| {
        let sound = text.len() == 7 && text.starts_with('#') && text.bytes().skip(1).all(|byte| byte.is_ascii_hexdigit());
        if sound { Ok(text.to_ascii_lowercase()) } else { Err(format!("expected a colour such as \"#3b5bdb\"; found {text:?}")) }
    });
    let logo = section.file_taken_now("logo_file").and_then(|path| {
        let kind = match path.extension().and_then(|ending| ending.to_str()) {
            Some("svg") => "image/svg+xml",
            Some("png") => "image/png",
            Some("jpg" | "jpeg") => "image/jpeg",
            Some("webp") => "image/webp",
            _ => {
                section.problem("logo_file", format!("expected a file ending in .svg, .png, .jpg or .webp; found {}", path.display()));
                return None;
            }
        };
        match std::fs::read(&path) {
            Ok(bytes) if bytes.len() <= 128 * 1024 => Some(format!("data:{kind};base64,{}", secret::encode_standard(&bytes))),
            Ok(_) => {
                section.problem("logo_file", "is larger than 128 KiB; it is sent with every page");
                None
            }
            Err(error) => {
                section.problem("logo_file", format!("{} cannot be read: {error}", path.display()));
                None
            }
        }
    });
    let notice = section.parsed("notice", plain_text);
    let help_url = section.parsed("help_url", web_address);
    section.finish();
    Pages { notice, help_url, title, logo, accent: accent.unwrap_or_else(|| "#3b5bdb".to_owned()) }
}

/// What is shown to people as it is: no markup, and not so long that nobody reads it.
pub(super) fn plain_text(text: &str) -> Result<String, &'static str> {
    let sound = !text.trim().is_empty() && text.len() <= 1000 && !text.chars().any(|c| c.is_control() && c != '\n');
    if sound { Ok(text.trim().to_owned()) } else { Err("expected a text of at most 1000 bytes, shown as it is; no markup") }
}

/// Where a link of ours may lead.
pub(super) fn web_address(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some());
    let plain = url.filter(|url| url.username().is_empty() && url.password().is_none());
    plain.map(String::from).ok_or_else(|| format!("expected an address such as \"https://help.example.com/\"; found {text:?}"))
}
