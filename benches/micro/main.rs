//! What single steps of a request cost, and how that grows: `cargo bench --bench micro`, or one group of them: `cargo bench --bench micro -- route`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement: it fails loudly, and tells what it found"
)]

mod cookie;
mod decide;
mod headers;
mod measure;
mod people;
mod route;
mod seal;
#[path = "../signer.rs"]
mod signer;
mod token;

/// A group and its name.
type Group = (&'static str, fn());

const GROUPS: [Group; 6] = [
    ("route", route::run),
    ("cookie", cookie::run),
    ("headers", headers::run),
    ("decide", decide::run),
    ("token", token::run),
    ("seal", seal::run),
];

fn main() {
    // `cargo bench` itself adds `--bench`.
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let meant: Vec<&Group> = GROUPS.iter().filter(|(name, _)| named.is_empty() || named.iter().any(|named| named == name)).collect();
    assert!(!meant.is_empty(), "the groups are: {}", GROUPS.map(|(name, _)| name).join(", "));
    for (_, run) in meant {
        run();
    }
}
