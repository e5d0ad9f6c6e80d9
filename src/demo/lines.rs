//! What `doorward demo` prints: where to go, as whom, and lines to paste.

use super::{Demo, USERS};

/// The lines; the last is `ready`.
#[must_use]
pub fn lines(demo: &Demo) -> Vec<String> {
    let url = &demo.url;
    let token = demo.provider.access_token("demo-program");
    let mut lines = vec![
        format!("Doorward demo at {url} (loopback only; Ctrl-C ends it)"),
        String::new(),
        format!("In a browser:  {url}/          needs a login"),
        format!("               {url}/staff/    lets in the group staff"),
        format!("               {url}/public/   needs nothing"),
        "As whom:".to_owned(),
    ];
    lines.extend(USERS.iter().map(|user| format!("               {:<6} password {:<11} {}", user.name, user.password, user.about)));
    lines.extend([
        String::new(),
        "# a browser without a session: 303 to the provider".to_owned(),
        format!("curl -i -H 'Accept: text/html' {url}/"),
        "# a program without a token: 401 with WWW-Authenticate: Bearer".to_owned(),
        format!("curl -i {url}/api/"),
        "# with a token: 200, and what the app received (a forged header does not arrive)".to_owned(),
        format!("TOKEN={token}"),
        format!("curl -i -H \"Authorization: Bearer $TOKEN\" -H 'X-Forwarded-User: root' {url}/api/"),
        "# forward-auth, as nginx would ask: 401, and with the token 200 and who it is".to_owned(),
        format!(
            "curl -i -H 'X-Original-Method: GET' -H 'X-Original-URI: /api/' -H 'X-Forwarded-Proto: http' -H 'X-Forwarded-Host: {}' {url}/oauth2/auth",
            url.trim_start_matches("http://")
        ),
        format!(
            "curl -i -H \"Authorization: Bearer $TOKEN\" -H 'X-Original-Method: GET' -H 'X-Original-URI: /api/' -H 'X-Forwarded-Proto: http' -H 'X-Forwarded-Host: {}' {url}/oauth2/auth",
            url.trim_start_matches("http://")
        ),
        "# what was counted".to_owned(),
        format!("curl http://{}/metrics", demo.app.admin_address()),
        String::new(),
        "ready".to_owned(),
    ]);
    lines
}
