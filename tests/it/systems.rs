//! Whole systems as their users know them, each with its original steps against real parts.

mod mobile_apps; // login for mobile apps: a password or a Facebook token for one opaque token in header, query or body
mod no_redirects; // flow state: the API side never sees a redirect
mod server_to_server; // client credentials: one origin before a public resource, a token endpoint and protected resources

use std::collections::HashSet;
use std::time::Duration;

use http::Request;
use serde_json::json;
use url::Url;

use crate::harness::body::empty;
use crate::harness::browser::Browser;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::http::{fetch, pairs};
use crate::harness::oidc_provider::{CLIENT_ID, CLIENT_SECRET, OidcProviderBuilder, log_in};
use crate::harness::process::Launch;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, free_port};
use crate::harness::world::reason_of;

/// An app that knows nothing of logins: it reads who it is for and with which token, and calls an API with that.
const APP: &str = r"
import http.server, json, sys, urllib.error, urllib.request
class App(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        token = self.headers.get('X-Forwarded-Access-Token', '')
        call = urllib.request.Request(sys.argv[1], headers={'Authorization': 'Bearer ' + token})
        try:
            with urllib.request.urlopen(call, timeout=20) as answer:
                status, orders = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, orders = error.code, ''
        text = json.dumps({'user': self.headers.get('X-Forwarded-User'), 'token': token, 'status': status, 'orders': orders}).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *more):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), App)
print('port', server.server_port, flush=True)
server.serve_forever()
";

/// Unique state and nonce per login, redirect, exchange, credentials kept for later calls: and the app behind calls an API as the user, with a
/// token that stays good through refreshes of which it knows nothing.
#[tokio::test]
async fn a_web_apps_server_flow_whose_app_calls_an_api_as_the_user() {
    let resource = "https://orders.example.test/";
    let port = free_port();
    let redirect_uri = format!("http://127.0.0.1:{port}/oauth2/callback");
    let oidc = OidcProviderBuilder::new(&redirect_uri)
        .set("resources", json!({ resource: { "audience": "orders", "scope": "profile", "ttl": 6 } }))
        .set("default_resource", json!(resource))
        .set("userinfo", json!(false))
        .rotating_refresh_tokens()
        .start()
        .await;
    let orders = EchoUpstream::start();
    let api = Gateway::start(&format!(
        "{TOP}store.kind = \"memory\"\nleeway = \"0s\"\n[[token_issuer]]\nissuer = \"{}\"\naudience = \"orders\"\n\
         [[route]]\nupstream = \"{}\"\naccept = [\"bearer\"]\nallow = \"any-authenticated\"\n",
        oidc.issuer(),
        orders.url(),
    ));
    let app = Launch::new("python3").args(["-c", APP, &format!("{}/orders", api.url)]).start();
    let said = app.wait_for_line(|line| line.starts_with("port "), PATIENCE).await;
    let gateway = Gateway::start_on(
        port,
        &format!(
            "{TOP}store.kind = \"memory\"\n{}[[route]]\nupstream = \"http://127.0.0.1:{}\"\nallow = \"any-authenticated\"\n\
             headers = {{ \"X-Forwarded-Access-Token\" = \"{{access_token}}\" }}\n",
            provider(oidc.issuer(), CLIENT_ID, CLIENT_SECRET),
            said.trim_start_matches("port "),
        ),
    );

    // Two logins: each has a state and a nonce of its own, and its answer is exchanged once.
    let mut seen = HashSet::new();
    let mut browser = Browser::new();
    for login in 1..=2 {
        browser = Browser::new();
        let page = browser.get(&format!("{}/app", gateway.url)).await;
        let sent = sent_with(&page.next().unwrap());
        assert!(seen.insert(sent.0) && seen.insert(sent.1), "state or nonce was used before");
        let page = log_in(&mut browser, page, "alice", &redirect_uri).await;
        let page = browser.follow_all(page).await;
        assert_eq!(page.status, 200, "{}\n{}", page.text(), oidc.output());
        assert_eq!(oidc.count("token:authorization_code").await, login);
    }

    // The app reads the user's token and calls the API with it.
    let told = browser.get(&format!("{}/app", gateway.url)).await.json();
    assert_eq!((&told["user"], &told["status"]), (&json!("alice"), &json!(200)), "{told}");
    assert_eq!(orders.last().header("x-forwarded-user").as_deref(), Some("alice"));
    let first = told["token"].as_str().unwrap().to_owned();

    // It is asked for again and again until that token is over: no call of the app's fails, and it has seen no login and no refresh.
    let until_the_first_is_over = async {
        loop {
            let told = browser.get(&format!("{}/app", gateway.url)).await.json();
            assert_eq!(told["status"], 200, "{told}");
            let direct = Request::get(format!("{}/orders", api.url)).header("authorization", format!("Bearer {first}"));
            let answer = fetch(direct.body(empty()).unwrap()).await;
            if answer.status == 401 {
                return reason_of(&answer);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let reason = tokio::time::timeout(PATIENCE, until_the_first_is_over).await.expect("the first token ends");
    assert_eq!(reason, "token-expired");
    let told = browser.get(&format!("{}/app", gateway.url)).await.json();
    assert_eq!((&told["user"], &told["status"]), (&json!("alice"), &json!(200)), "{told}");
    assert_ne!(told["token"].as_str().unwrap(), first);
    assert!(oidc.count("token:refresh_token").await >= 1);
    assert_eq!(oidc.count("token:authorization_code").await, 2, "somebody signed in again");
}

/// `state` and `nonce` of an authorization request.
fn sent_with(url: &Url) -> (String, String) {
    let query = pairs(url.query().unwrap_or_default().as_bytes());
    (query["state"].clone(), query["nonce"].clone())
}
