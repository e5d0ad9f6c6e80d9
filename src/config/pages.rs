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
}

pub(super) fn read(root: &Section<'_>) -> Pages {
    let section = root.section("pages");
    let title = section.text("title").unwrap_or_else(|| "Sign in".to_owned());
    let accent = section.parsed("accent", |text| {
        let sound = text.len() == 7 && text.starts_with('#') && text.bytes().skip(1).all(|byte| byte.is_ascii_hexdigit());
        if sound { Ok(text.to_ascii_lowercase()) } else { Err("expected a colour such as \"#3b5bdb\"") }
    });
    let logo = section.file("logo_file").and_then(|path| {
        let kind = match path.extension().and_then(|ending| ending.to_str()) {
            Some("svg") => "image/svg+xml",
            Some("png") => "image/png",
            Some("jpg" | "jpeg") => "image/jpeg",
            Some("webp") => "image/webp",
            _ => {
                section.problem("logo_file", "expected a file ending in .svg, .png, .jpg or .webp");
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
    section.finish();
    Pages { title, logo, accent: accent.unwrap_or_else(|| "#3b5bdb".to_owned()) }
}
