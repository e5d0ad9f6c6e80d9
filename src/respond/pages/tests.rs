use super::*;

fn pages() -> Pages {
    Pages::new(&Look {
        title: "T".into(),
        logo: Some("data:image/png;base64,AA==".into()),
        accent: "#ffe066".into(),
        notice: Some("<b>Notice</b>".into()),
        help_url: None,
    })
    .unwrap()
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body().to_vec()).unwrap()
}

#[test]
fn what_people_are_called_cannot_become_markup() {
    let evil = "<script>alert(1)</script>\"'".to_owned();
    let page = SessionPage {
        user: evil.clone(),
        email: Some(evil.clone()),
        email_verified: true,
        preferred_username: Some(evil.clone()),
        groups: vec![evil.clone()],
        issuer: evil.clone(),
        sub: evil.clone(),
        signed_in_at: evil.clone(),
        idle_until: String::new(),
        ends_at: String::new(),
        sign_out_action: "/x".into(),
        rd: Some(evil.clone()),
        home: "/".into(),
        end_action: "/y".into(),
        confirm: evil.clone(),
        sessions: vec![ShownSession {
            id: evil.clone(),
            browser: evil.clone(),
            address: evil.clone(),
            signed_in_at: evil.clone(),
            last_used: evil.clone(),
            here: false,
        }],
        more_sessions: 0,
    };
    let session = pages().session("r", &page, &["https://idp.test".into()]);
    assert!(!text(&session).contains("<script>"));
    assert!(text(&session).contains("&lt;script&gt;"));
    let policy = session.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.ends_with("form-action 'self' https://idp.test"), "{policy}");
    for proven in [None, Some(evil.clone())] {
        let form = LocalForm {
            action: "/x".into(),
            state: evil.clone(),
            host: evil.clone(),
            proven,
            hint: Some(evil.clone()),
            failure: Some("wrong"),
            failures: 2,
            another: "/y".into(),
        };
        let form = pages().local_form("r", &form, &["https:".into()]);
        assert!(!text(&form).contains("<script>") && text(&form).contains("&lt;script&gt;"));
        assert!(form.headers()["content-security-policy"].to_str().unwrap().ends_with("form-action 'self' https:"));
    }
    let denied = DeniedPage { user: Some(evil), sign_out_action: None, rd: None, home: None, told: None };
    assert!(
        !text(&pages().denied("r", Reason::NotAllowed, &super::super::words_of(Reason::NotAllowed), &denied, &[])).contains("<script>")
    );
}

#[test]
fn the_policy_names_the_style_that_the_page_holds() {
    let pages = pages();
    let answer = pages.signed_out("r", &SignedOut { provider_too: true, sign_in: None, warning: None });
    let page = text(&answer);
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let hash = encode_standard(&sha256(style.as_bytes()));
    assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains(&hash));
    assert!(!style.contains("__"));
    assert!(!page.contains("style=") && !page.contains("<script"));
}

#[test]
fn the_front_channel_page_may_be_framed_by_whom_it_names() {
    let header = |answer: &Answer, name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let answer = pages().frontchannel_signed_out("r", &["https://idp.test".into(), "https://login.idp.test".into()]);
    let policy = header(&answer, "content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors https://idp.test https://login.idp.test;"), "{policy}");
    assert!(policy.contains("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert_eq!(header(&answer, "x-frame-options"), None);
    assert_eq!(header(&answer, "cache-control").as_deref(), Some("no-store"));
    let nobody = pages().frontchannel_signed_out("r", &[]);
    assert!(header(&nobody, "content-security-policy").unwrap().contains("frame-ancestors 'none';"));
}

#[test]
fn the_page_that_closes_its_window_names_its_script_by_its_hash() {
    let answer = pages().done();
    let page = text(&answer);
    let script = page.split_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
    let hash = encode_standard(&sha256(script.as_bytes()));
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.ends_with(&format!("script-src 'sha256-{hash}'")) && policy.starts_with("default-src 'none'"), "{policy}");
    assert_eq!(page.matches("<script").count(), 1);
}

#[test]
fn text_on_the_accent_can_be_read() {
    assert_eq!(readable_on("#ffe066"), "#000");
    assert_eq!(readable_on("#3b5bdb"), "#fff");
}
