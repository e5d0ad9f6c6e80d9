//! Requests that two readers would read differently: a front proxy's one request must never be two of ours (request smuggling).
//!
//! hyper refuses most of them itself: two `Content-Length` that differ, `Transfer-Encoding` whose last coding is not `chunked` or in HTTP/1.0,
//! folded header lines, white space before a colon, bare CR; HTTP/2 refuses connection headers and CR, LF, NUL in values. What it lets
//! through is dealt with here:
//!
//! - **A bare LF as line end.** RFC 9112 §2.2 allows it ("MAY"); whoever takes it for a part of a value sees one request where we see two.
//!   [`LineEnds`] turns it into NUL, which no parser takes: 400. The stream gives hyper one head at a time and learns from hyper where its
//!   body ends, so that each head is watched, also one that came along with the request before it, and no body is.
//! - **`Content-Length` beside `Transfer-Encoding`.** hyper drops the length before anybody sees it. RFC 9112 §6.1 lets a server go by the coding
//!   alone, but then it "MUST close the connection after responding"; as the case cannot be told, every request with a coding is
//!   the last on its connection.
//! - **Other codings before `chunked`.** They would be passed on undecoded: 400.
//! - **Two `Content-Length` in HTTP/2.** Only the first is held against the body: 400. (Of two that agree in HTTP/1.1 hyper keeps one.)

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Version};

use crate::fault::Fault;
use crate::reason::Reason;

/// Whether a connection may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// It may.
    KeepAlive,
    /// This answer is its last.
    Close,
}

/// Judges what hyper has parsed.
pub(super) fn judge(version: Version, headers: &HeaderMap) -> Result<Afterwards, Fault> {
    if headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Fault::new(Reason::RequestMalformed, "Content-Length more than once"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(Afterwards::KeepAlive) };
    if version == Version::HTTP_11 && codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(Afterwards::Close);
    }
    Err(Fault::new(Reason::RequestMalformed, "Transfer-Encoding is not exactly `chunked`"))
}

/// Walks over the bytes of one request's head as they arrive, in pieces of any size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LineEnds {
    /// How many bytes the line has so far, its CR included.
    line: usize,
    /// The byte before the piece.
    last: u8,
    /// Whether a line with something in it has ended: empty lines before the request line do not end a head (RFC 9112 §2.2).
    begun: bool,
}

/// How far a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// More is to come.
    Open,
    /// So many bytes of this piece are its last.
    Ends(usize),
    /// It will not be parsed.
    Spoilt,
}

impl LineEnds {
    /// Looks at the next piece and spoils the first LF without a CR before it.
    pub(super) fn watch(&mut self, piece: &mut [u8]) -> Head {
        let mut start = 0;
        while let Some(found) = find_line_feed(piece.get(start..).unwrap_or_default()) {
            let at = start + found;
            let before = if at == 0 { self.last } else { piece.get(at - 1).copied().unwrap_or(0) };
            if before != b'\r' {
                if let Some(byte) = piece.get_mut(at) {
                    *byte = 0;
                }
                return Head::Spoilt;
            }
            if self.line + found == 1 && self.begun {
                return Head::Ends(at + 1);
            }
            self.begun |= self.line + found > 1;
            self.line = 0;
            start = at + 1;
        }
        self.line += piece.len() - start.min(piece.len());
        self.last = piece.last().copied().unwrap_or(self.last);
        Head::Open
    }

    /// Whether anything but empty lines has come.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun || self.line > 0
    }
}

/// Where the first LF stands. The standard library's fast search for a byte is behind this reader.
fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    use std::io::BufRead as _;
    let mut reader = bytes;
    let last = reader.skip_until(b'\n').ok()?.checked_sub(1)?;
    (bytes.get(last) == Some(&b'\n')).then_some(last)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    /// What the bytes have become, and where in all of them the head ends.
    fn watched(text: &str, pieces: usize) -> (Vec<u8>, Head) {
        let mut bytes = text.as_bytes().to_vec();
        let mut ends = LineEnds::default();
        let mut head = Head::Open;
        for (number, piece) in bytes.chunks_mut(pieces).enumerate() {
            if head == Head::Open {
                head = match ends.watch(piece) {
                    Head::Ends(at) => Head::Ends(number * pieces + at),
                    other => other,
                };
            }
        }
        (bytes, head)
    }

    #[test]
    fn a_bare_line_feed_in_a_head_is_spoilt_and_one_in_a_body_is_not() {
        for pieces in [1, 2, 3, 7, 1000] {
            for (text, expected, head) in [
                ("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\nbody", None, Head::Ends(27)),
                ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\n", None, Head::Ends(31)),
                ("GET / HTTP/1.1\r\nHost: a", None, Head::Open),
                ("GET / HTTP/1.1\nHost: a\r\n\r\n", Some(14), Head::Spoilt),
                ("GET / HTTP/1.1\r\nX: y\n\nGET /evil", Some(20), Head::Spoilt),
                ("\nGET / HTTP/1.1\r\n\r\n", Some(0), Head::Spoilt),
                ("\r\n\nGET / HTTP/1.1\r\n\r\n", Some(2), Head::Spoilt),
                ("GET / HTTP/1.1\r\nX: y\r\n\n", Some(22), Head::Spoilt),
            ] {
                let (bytes, found) = watched(text, pieces);
                assert_eq!((bytes.iter().position(|byte| *byte == 0), found), (expected, head), "{text:?} in pieces of {pieces}");
            }
        }
    }

    #[test]
    fn only_chunked_alone_is_a_coding_and_it_ends_the_connection() {
        let judged = |version, values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.extend(values.iter().map(|value| (TRANSFER_ENCODING, HeaderValue::from_static(value))));
            judge(version, &headers).map_err(|fault| fault.reason)
        };
        assert_eq!(judged(Version::HTTP_11, &[]), Ok(Afterwards::KeepAlive));
        assert_eq!(judged(Version::HTTP_11, &["Chunked"]), Ok(Afterwards::Close));
        for bad in [&["gzip, chunked"][..], &["chunked", "chunked"], &["identity"], &["chunked, chunked"], &[""]] {
            assert_eq!(judged(Version::HTTP_11, bad), Err(Reason::RequestMalformed), "{bad:?}");
        }
        assert_eq!(judged(Version::HTTP_2, &["chunked"]), Err(Reason::RequestMalformed));
    }

    #[test]
    fn two_lengths_are_one_too_many() {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_LENGTH, HeaderValue::from_static("5"));
        assert_eq!(judge(Version::HTTP_2, &headers), Ok(Afterwards::KeepAlive));
        headers.append(CONTENT_LENGTH, HeaderValue::from_static("5"));
        assert_eq!(judge(Version::HTTP_2, &headers).unwrap_err().reason, Reason::RequestMalformed);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same(text in "[GX:\r\n ]{0,60}", pieces in 1_usize..9) {
            prop_assert_eq!(watched(&text, pieces), watched(&text, 1000));
        }
    }
}
