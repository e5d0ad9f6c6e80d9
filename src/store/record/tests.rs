use proptest::prelude::*;
use serde_json::json;

use super::*;

fn session() -> Session {
    let identity = json!({"issuer": "https://idp.test", "sub": "1", "source": {"provider": "p"}, "user": "1", "email": "absent",
        "preferred_username": "alice", "groups": {"listed": ["staff"]}, "scopes": [], "claims": {"a": {"b": [1, null]}}, "auth_time": 5});
    Session {
        identity: serde_json::from_value(identity).unwrap(),
        client_id: "app".into(),
        sid: Some("s".into()),
        id_token: "a.b.c".into(),
        created_at: UnixTime(1000),
        ends_at: UnixTime(2000),
        tokens: None,
        checked_at: None,
        shown_as: crate::session::ShownAs::Cookie,
    }
}

fn attempt() -> PendingLogin {
    PendingLogin {
        provider: "p".into(),
        nonce: "n".into(),
        code_verifier: "v".into(),
        redirect_uri: "https://app.test/callback".into(),
        started_at: UnixTime(1000),
        asks: Default::default(),
        scopes: Vec::new(),
        proven: None,
        dpop_key: None,
        registration: None,
    }
}

#[test]
fn a_session_opens_by_its_own_cookie_only() {
    let (cookie, other) = (SessionCookie::new(), SessionCookie::new());
    let sealed = seal_session(&session(), &cookie);
    assert_eq!(open_session(&sealed, &cookie), Some(session()));
    assert_ne!(sealed, seal_session(&session(), &cookie));
    assert_eq!(open_session(&sealed, &other), None);
    // The right key under another id: a record that was moved.
    let written = cookie.write();
    let moved = SessionCookie::parse(&format!("{}{}", &other.write()[..20], &written[20..])).unwrap();
    assert!(moved.record_id() != cookie.record_id());
    assert_eq!(open_session(&sealed, &moved), None);
    // The right id with another key: a guess.
    let guess = SessionCookie::parse(&format!("{}{}", &written[..24], &other.write()[24..])).unwrap();
    assert_eq!(guess.record_id(), cookie.record_id());
    assert_eq!(open_session(&sealed, &guess), None);
}

#[test]
fn a_record_of_one_kind_is_none_of_another() {
    let cookie = FlowCookie::new();
    let state = State::new(cookie.handle);
    let sealed = seal_attempt(&attempt(), &state, &cookie);
    assert_eq!(open_attempt(&sealed, &state, &cookie), Some(attempt()));
    assert_eq!(open_attempt(&sealed, &State::new(cookie.handle), &cookie), None);
    assert_eq!(open_attempt(&sealed, &state, &FlowCookie::new()), None);
    assert_eq!(open_flow(&sealed, &cookie), None);
    let flow: Flow =
        serde_json::from_value(json!({"return_to": "https://app.test/", "started_at": 1, "failures": 0, "progress": "open"})).unwrap();
    let sealed = seal_flow(&flow, &cookie);
    assert_eq!(open_flow(&sealed, &cookie), Some(flow));
    assert_eq!(open_attempt(&sealed, &state, &cookie), None);
}

/// What release 0.1 reads: its types, as they were. An upgrade signs nobody out, and neither does going back by one release.
mod format_1 {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::Deserialize;
    use serde_json::Value;

    #[derive(Debug, Deserialize)]
    pub(super) struct Session {
        pub(super) identity: Identity,
        pub(super) client_id: String,
        pub(super) sid: Option<String>,
        pub(super) id_token: String,
        pub(super) created_at: u64,
        pub(super) ends_at: u64,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "that they can be read is what counts")]
    pub(super) struct Identity {
        pub(super) issuer: String,
        pub(super) sub: String,
        source: BTreeMap<String, String>,
        user: String,
        email: Value,
        preferred_username: Option<String>,
        groups: Value,
        scopes: BTreeSet<String>,
        claims: BTreeMap<String, Value>,
        auth_time: Option<u64>,
    }

    #[derive(Debug, Deserialize)]
    pub(super) struct Flow {
        pub(super) return_to: String,
        pub(super) started_at: u64,
        pub(super) failures: u8,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "that they can be read is what counts")]
    pub(super) struct PendingLogin {
        pub(super) provider: String,
        nonce: String,
        code_verifier: String,
        redirect_uri: String,
        started_at: u64,
    }
}

#[test]
fn the_release_before_reads_what_this_one_writes() {
    let opened = |sealed: &[u8], key: &[u8; 32], kind: &[u8], id: &RecordId| {
        let plain = SealKey::new(key).open(&context(kind, id), sealed).unwrap();
        assert_eq!(plain[0], 1);
        plain[1..].to_vec()
    };
    let cookie = SessionCookie::new();
    let tokens = crate::session::Tokens::new(
        crate::secret::Secret::new("a"),
        Some(crate::secret::Secret::new("r")),
        Some(std::time::Duration::from_secs(60)),
        None,
        UnixTime(1),
        0,
    );
    let full = Session { tokens: Some(tokens), checked_at: Some(UnixTime(7)), ..session() };
    let plain = opened(&seal_session(&full, &cookie), cookie.key(), SESSION, &cookie.record_id());
    let read: format_1::Session = serde_json::from_slice(&plain).unwrap();
    assert_eq!((read.identity.issuer.as_str(), read.identity.sub.as_str()), (full.identity.issuer.as_str(), full.identity.sub.as_str()));
    assert_eq!((read.client_id, read.sid, read.id_token), (full.client_id.into(), full.sid.map(Into::into), full.id_token));
    assert_eq!((read.created_at, read.ends_at), (1000, 2000));

    let cookie = FlowCookie::new();
    let flow = json!({"return_to": "https://app.test/", "started_at": 1, "failures": 2, "asks": {"acr": ["mfa"], "max_age": 5},
        "told": "x", "kept": {"url": "https://app.test/form", "content_type": "text/plain", "body": "YQ", "subject": vec![0; 32]}});
    let flow: Flow = serde_json::from_value(flow).unwrap();
    let plain = opened(&seal_flow(&flow, &cookie), cookie.key(), FLOW, &cookie.handle.record_id());
    let read: format_1::Flow = serde_json::from_slice(&plain).unwrap();
    assert_eq!((read.return_to.as_str(), read.started_at, read.failures), ("https://app.test/", 1, 2));
    let state = State::new(cookie.handle);
    let full = PendingLogin { scopes: vec!["orders:read".into()], proven: Some("ann".into()), asks: flow.asks, ..attempt() };
    let plain = opened(&seal_attempt(&full, &state, &cookie), cookie.key(), ATTEMPT, &state.record_id());
    assert_eq!(serde_json::from_slice::<format_1::PendingLogin>(&plain).unwrap().provider, "p");
}

#[test]
fn what_is_left_of_a_session_is_no_session() {
    let (cookie, ring) = (SessionCookie::new(), SealRing::new(&[[1; 32]]).unwrap());
    let ended = Ended { subject: subject_tag(&ring, "i", "s"), at: UnixTime(5), why: EndedBy::Idle };
    let sealed = seal_ended(&ended, &cookie);
    assert_eq!(open_ended(&sealed, &cookie), Some(ended));
    assert_eq!(open_session(&sealed, &cookie), None);
    assert_eq!(open_ended(&seal_session(&session(), &cookie), &cookie), None);
    assert_eq!(open_ended(&sealed, &SessionCookie::new()), None);
}

#[test]
fn a_newer_format_is_absent_and_an_unknown_member_is_ignored() {
    let cookie = SessionCookie::new();
    let seal = |plain: &[u8]| SealKey::new(cookie.key()).seal(&context(SESSION, &cookie.record_id()), plain);
    let mut plain = pack(&session()).to_vec();
    plain[0] = FORMAT + 1;
    assert_eq!(open_session(&seal(&plain), &cookie), None);
    assert_eq!(open_session(&seal(&[]), &cookie), None);
    let mut json = serde_json::to_value(session()).unwrap();
    json["from_the_future"] = json!(1);
    let plain = [&[FORMAT], json.to_string().as_bytes()].concat();
    assert_eq!(open_session(&seal(&plain), &cookie), Some(session()));
}

proptest! {
    #[test]
    fn nothing_foreign_opens_and_nothing_panics(bytes: Vec<u8>, cut in 1_usize..4000, at: usize, bit in 0_u8..8) {
        let cookie = SessionCookie::new();
        let sealed = seal_session(&session(), &cookie);
        prop_assert_eq!(open_session(&bytes, &cookie), None);
        prop_assert_eq!(open_session(&pack(&session()), &cookie), None);
        prop_assert_eq!(open_session(&sealed[..sealed.len().saturating_sub(cut)], &cookie), None);
        let mut bent = sealed.clone();
        let at = at % bent.len();
        bent[at] ^= 1 << bit;
        prop_assert_eq!(open_session(&bent, &cookie), None);
        // What is inside the seal may be anything: a release that is older or newer, or a defect.
        prop_assert_eq!(unpack::<Session>(&bytes), None);
    }

    #[test]
    fn a_user_agent_is_cut_at_a_character(text in "\\PC{0,300}") {
        let listing = Listing::new(&session(), "::ffff:192.0.2.1".parse().unwrap(), &text);
        prop_assert!(listing.user_agent.len() <= USER_AGENT_BYTES);
        prop_assert!(text.len() > USER_AGENT_BYTES || listing.user_agent == text);
    }
}

#[test]
fn a_listing_opens_with_any_key_of_the_ring_at_its_own_place() {
    let old = SealRing::new(&[[1; 32]]).unwrap();
    let both = SealRing::new(&[[2; 32], [1; 32]]).unwrap();
    let listing = Listing::new(&session(), "2001:db8::1".parse().unwrap(), "Mozilla\r\n/5.0");
    assert_eq!((listing.name.as_str(), listing.user_agent.as_str()), ("alice", "Mozilla/5.0"));
    let sealed = seal_listing(&listing, &[1; 32], &old);
    assert_eq!(open_listing(&sealed, &[1; 32], &both), Some(listing.clone()));
    assert_eq!(open_listing(&sealed, &[2; 32], &both), None);
    assert_eq!(open_listing(&seal_listing(&listing, &[1; 32], &both), &[1; 32], &old), None);
}

#[test]
fn neither_the_gateways_key_nor_the_cookies_opens_both_halves_of_a_session() {
    let (ring, cookie) = (SealRing::new(&[[1; 32]]).unwrap(), SessionCookie::new());
    let id = cookie.record_id();
    let session = seal_session(&session(), &cookie);
    let listing = Listing::new(&self::session(), "192.0.2.1".parse().unwrap(), "Mozilla/5.0");
    let sealed = seal_listing(&listing, &id, &ring);
    let key = SealKey::new(cookie.key());
    for kind in [SESSION, LISTING] {
        assert!(ring.open(&context(kind, &id), &session).is_none());
        assert!(key.open(&context(kind, &id), &sealed).is_none());
    }
    assert!(open_session(&session, &cookie).is_some() && open_listing(&sealed, &id, &ring).is_some());
    // Nor does the half that the gateway opens tell what the other holds.
    let told = serde_json::to_value(&listing).unwrap();
    let members: Vec<&String> = told.as_object().unwrap().keys().collect();
    assert_eq!(members, ["address", "issuer", "name", "signed_in_at", "sub", "user_agent"]);
}

#[test]
fn index_entries_tell_users_and_provider_sessions_apart() {
    let ring = SealRing::new(&[[1; 32]]).unwrap();
    let both = indexes(&ring, "https://idp.test", "x", Some("x"));
    assert_eq!(both.len(), 2);
    assert_ne!(both[0], both[1]);
    assert_eq!(indexes(&ring, "https://idp.test", "x", None), both[..1]);
    assert_ne!(indexes(&ring, "https://idp.tes", "tx", None), both[..1]);
}

#[test]
fn addresses_count_by_their_network() {
    let ring = SealRing::new(&[[1; 32]]).unwrap();
    let tag = |text: &str| address_tag(&ring, text.parse().unwrap());
    assert_eq!(tag("2001:db8:1:2:3::1"), tag("2001:db8:1:2:ffff::9"));
    assert_ne!(tag("2001:db8:1:2::1"), tag("2001:db8:1:3::1"));
    assert_eq!(tag("::ffff:192.0.2.1"), tag("192.0.2.1"));
    assert_ne!(tag("192.0.2.2"), tag("192.0.2.1"));
}
