//! What an earlier release wrote is read by this one: a session made then is a session now, in every kind of store.

use crate::harness::fixtures::Fixture;
use crate::harness::gateway::{Gateway, TOP};
use crate::harness::http::{fetch, get};
use crate::harness::upstream::EchoUpstream;

/// The person of the fixture is signed in; with a cookie that is not theirs nobody is.
async fn is_signed_in(gateway: &Gateway, upstream: &EchoUpstream, fixture: &Fixture) {
    let ask = async |cookie: &str| {
        let mut request = get(&format!("{}/app", gateway.url));
        request.headers_mut().insert("cookie", cookie.parse().expect("a header value"));
        fetch(request).await
    };
    let answer = ask(&fixture.cookie()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = upstream.last();
    for (name, value) in [("x-forwarded-user", fixture.text("sub")), ("x-forwarded-email", fixture.text("email"))] {
        assert_eq!(seen.header(name).as_deref(), Some(value), "{name}");
    }
    let groups = fixture.session["groups"].as_array().expect("a list").iter().map(|group| group.as_str().expect("a text"));
    assert_eq!(seen.header("x-forwarded-groups"), Some(groups.collect::<Vec<_>>().join(",")));
    let other = fixture.cookie().replace(|letter: char| letter.is_ascii_uppercase(), "A");
    assert_eq!(ask(&other).await.status, 401);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_written_in_format_1_is_still_a_session() {
    let fixture = Fixture::of_format(1);
    let (_dump, redis) = fixture.redis().await;
    let folder = fixture.folder();
    for store in [format!("path = \"{}\"", folder.join("doorward.redb").display()), format!("kind = \"redis\"\nurl = \"{}\"", redis.url())]
    {
        let upstream = EchoUpstream::start();
        let config = format!(
            "{TOP}upstream = \"{}\"\nallow = \"any-authenticated\"\n{}[store]\n{store}\n[keys]\nseal_file = \"{}\"\n",
            upstream.url(),
            fixture.provider(),
            folder.join("doorward.keys").display()
        );
        let gateway = Gateway::start(&config);
        is_signed_in(&gateway, &upstream, &fixture).await;
    }
}
