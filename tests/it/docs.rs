//! docs/ is true: every config in it loads, every path is there, and what is quoted of `deploy/` stands there.

use std::path::{Path, PathBuf};

use crate::deploy::load;
use crate::harness::browser::Browser;
use crate::harness::certs::CertificateAuthority;
use crate::harness::fronts;
use crate::harness::http::HttpClient;
use crate::harness::scene::Scene;
use crate::harness::wait::free_port;
use crate::harness::websocket::WebSocket;
use crate::readme::blocks;

fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("docs/ is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                let text = std::fs::read_to_string(&path).expect("a page");
                pages.push((path, text));
            }
        }
    }
    pages.sort();
    pages
}

#[test]
fn every_config_in_the_docs_loads() {
    let mut seen = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "toml") {
            seen += 1;
            assert!(block.contains("public_url"), "a config of {} is not whole:\n{block}", path.display());
            eprintln!("{}", path.display());
            let config = load(&block, &[]);
            assert!(!config.routes.table.routes().is_empty(), "{block}");
        }
    }
    assert!(seen > 20, "{seen} configs");
}

#[test]
fn what_the_docs_point_at_is_there() {
    let mut seen = 0;
    for (path, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|target| !target.contains("://")) {
            seen += 1;
            let target = target.split('#').next().unwrap_or_default();
            assert!(path.parent().expect("a folder").join(target).exists(), "{} points at {target}", path.display());
        }
        for place in text.split('`').skip(1).step_by(2).filter(|word| word.starts_with("deploy/")) {
            seen += 1;
            let place = place.trim_end_matches('/');
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(place).exists(), "{} speaks of {place}", path.display());
        }
    }
    assert!(seen > 20, "{seen} links");
}

#[test]
fn reasons_that_the_docs_name_are_reasons() {
    // What looks like one and is the name of something else.
    let names = ["auth-cache-key", "auth-url", "no-store", "sec-websocket-version"];
    let word = regex::Regex::new("`([a-z]+(?:-[a-z]+)+)`").expect("a sound pattern");
    let mut seen = 0;
    for (path, text) in pages() {
        for found in word.captures_iter(&text).filter(|found| !names.contains(&&found[1])) {
            seen += 1;
            assert!(doorward::reason::Reason::ALL.iter().any(|reason| reason.as_str() == &found[1]), "{}: {}", path.display(), &found[1]);
        }
    }
    assert!(seen > 8, "{seen} reasons");
}

#[test]
fn every_page_is_in_the_index() {
    let pages = pages();
    let (_, index) = pages.iter().find(|(path, _)| path.ends_with("docs/README.md")).expect("an index");
    for (path, _) in pages.iter().filter(|(path, _)| !path.ends_with("docs/README.md")) {
        let name = path.file_name().expect("a name").to_string_lossy();
        assert!(index.contains(&*name), "docs/README.md does not lead to {name}");
    }
}

#[test]
fn what_the_docs_quote_of_a_file_stands_in_it() {
    let mut seen = 0;
    for (path, text) in pages() {
        // A block that follows a line ending in `(from [NAME](FILE)):` is taken from that file, line by line, in order.
        for part in text.split("(from [").skip(1) {
            let target = part.split("](").nth(1).and_then(|rest| rest.split(')').next()).expect("a link");
            let file = std::fs::read_to_string(path.parent().expect("a folder").join(target)).unwrap_or_else(|_| panic!("{target}"));
            let block = part.split("```").nth(1).expect("a block");
            let mut lines = file.lines().map(str::trim);
            for line in block.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && *line != "…") {
                seen += 1;
                assert!(lines.any(|known| known == line), "{} quotes {line:?}, which {target} does not have there", path.display());
            }
        }
    }
    assert!(seen > 10, "{seen} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_nginx_of_its_page_brings_people_and_websockets_to_the_app() {
    const SITE: &str = "https://app.example.com";
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/proxies/nginx.md")).expect("the page is there");
    let block = blocks(&page, "nginx").into_iter().find(|block| !block.contains("auth_request")).expect("a plain proxy");
    let (port, authority) = (free_port(), CertificateAuthority::new());
    let leaf = authority.leaf(&["app.example.com"]);
    let replace = [
        ("listen 443 ssl", "listen 127.0.0.1:@PORT@ ssl"),
        ("127.0.0.1:4180", &format!("127.0.0.1:{port}")),
        ("/etc/ssl/app.example.com.crt", &leaf.certificate_file().display().to_string()),
        ("/etc/ssl/app.example.com.key", &leaf.key_file().display().to_string()),
    ];
    for (from, _) in replace {
        assert!(block.contains(from), "the block does not hold {from}");
    }
    let front = fronts::nginx(&block, &replace).await;
    let route = "[[route]]\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\n";
    let scene = Scene::start_on(port, SITE, "trusted_proxies = [\"127.0.0.1\"]", route);

    let mut browser = Browser::new().resolve("app.example.com", front.address()).trusting(authority.client_config());
    let page = browser.get(&format!("{SITE}/x?a=b")).await;
    let page = browser.follow_all(page).await;
    assert_eq!((page.status.as_u16(), page.url.as_str()), (200, "https://app.example.com/x?a=b"), "{}", page.text());
    let seen = scene.upstream.last();
    assert_eq!(seen.header_all("x-forwarded-user"), ["alice"]);
    assert_eq!(seen.header_all("x-forwarded-for"), ["127.0.0.1, 127.0.0.1"], "the browser, then nginx");

    let http = HttpClient::new().at(front.address()).trusting(authority.client_config());
    let cookie = browser.cookie_header(SITE);
    let socket = WebSocket::connect(&http, &format!("{SITE}/ws"), &[("cookie", &cookie), ("origin", SITE)]).await;
    assert!(socket.expect("a socket").echo("hello").await);

    scene.gateway.stop();
    let away = browser.get(&format!("{SITE}/x")).await;
    assert_eq!(away.status, 502);
}
