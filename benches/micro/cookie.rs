//! From a `Cookie` header to a session that this process knows.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use doorward::authenticate::{Shown, present};
use doorward::clock::SharedClock;
use doorward::credential::{Credential, CredentialKind};
use doorward::header::PreparedHeaders;
use doorward::header::cookies::{CookieStyle, SameSite, Secure};
use doorward::route::Accept;
use doorward::secret::SealRing;
use doorward::session::{Lifetimes, SessionCookie, TokenEnd};
use doorward::store::memory::Memory;
use doorward::store::{Created, Listing, Loaded, SessionCache, Sessions};
use doorward::tasks::Tasks;
use http::{HeaderMap, HeaderValue};

use crate::measure::{curve, step};
use crate::people::{self, Still};

pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let clock: SharedClock = Arc::new(Still);
    let hour = Duration::from_secs(3600);
    let sessions: Sessions<PreparedHeaders> = Sessions::new(
        Arc::new(Memory::new(Arc::clone(&clock))),
        Some(SessionCache::new(10_000)),
        Arc::new(SealRing::new(&[[7; 32]]).unwrap()),
        Arc::clone(&clock),
        Lifetimes { idle: hour, absolute: 10 * hour, token: hour, token_end: TokenEnd::Outlived },
        Tasks::new(runtime.handle().clone()),
    );
    let session = people::session();
    let listing = Listing::new(&session, IpAddr::V4(Ipv4Addr::LOCALHOST), "bench");
    let Ok(Created::Session(cookie)) = runtime.block_on(sessions.create(session, &listing)) else { panic!("no session") };
    assert!(matches!(runtime.block_on(sessions.load(&cookie)), Ok(Loaded::Alive(_))));

    let style = CookieStyle::new(Secure::Yes, None, "", SameSite::Lax);
    let accept = Accept::of(vec![CredentialKind::Session]);
    let among = [0, 4, 20].map(|others| {
        let others: String = (0..others).map(|n| format!("_analytics_{n}=GA1.1.1234567890.17000000{n:02}; ")).collect();
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::try_from(format!("{others}{}={}", style.session, cookie.write())).unwrap());
        headers
    });
    let found = |headers: &HeaderMap| -> SessionCookie {
        match present(&Shown::headers(headers), &accept, &style, 16 * 1024) {
            Credential::Session(mut cookies) => cookies.pop().unwrap(),
            _ => panic!("no session is shown"),
        }
    };
    let points = among.iter().zip(["alone", "among 5", "among 21"]);
    curve("cookie: it is found", points.map(|(headers, name)| step(name, || found(headers))).collect());
    let known = || assert!(matches!(sessions.peek(&cookie), Some(Loaded::Alive(_))));
    curve("cookie: its session", vec![step("is in the cache", known)]);
}
