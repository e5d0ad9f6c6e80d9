//! Protected resource metadata (RFC 9728): a program that knows nothing but a resource learns where its tokens come from. By hand, then with the official
//! client of the Model Context Protocol, which has no other way.

use std::path::PathBuf;

use http::Request;
use serde_json::{Value, json};

use crate::harness::answer::Answer;
use crate::harness::body::empty;
use crate::harness::gateway::{Gateway, TOP, provider};
use crate::harness::hostile::HostileProvider;
use crate::harness::http::{HttpClient, Protocol, fetch, get};
use crate::harness::oidc_provider::OidcProviderBuilder;
use crate::harness::process::{Launch, Process};
use crate::harness::scene::reason;
use crate::harness::upstream::EchoUpstream;
use crate::harness::wait::{PATIENCE, free_port};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Two issuers of tokens, people who sign in at the first, and an app that has everything that no other route has.
struct World {
    a: HostileProvider,
    b: HostileProvider,
    upstream: EchoUpstream,
    gateway: Gateway,
}

impl World {
    fn start() -> Self {
        let (a, b) = (HostileProvider::builder().name("a").start(), HostileProvider::builder().name("b").start());
        let upstream = EchoUpstream::start();
        let route = |path: &str, rest: &str| {
            format!("[[route]]\nid = \"{}\"\npath = \"{path}\"\nupstream = \"{}\"\n{rest}\n", path.replace('/', "r"), upstream.url())
        };
        let routes = [
            route("/", "access = \"public\""),
            route("/people", "allow = \"any-authenticated\""),
            route("/api/", "accept = [\"bearer\"]\nallow = { scopes = [\"write\", \"read\"] }"),
            route("/api/open", "access = \"public\""),
            route("/api/old", "accept = [\"bearer\"]\nallow = \"any-authenticated\"\nbearer_in = [\"query\", \"body\", \"header\"]"),
            route("/api/named", "accept = [\"bearer\"]\nallow = \"any-authenticated\"\nbearer_in = [\"header:X-Token\"]"),
            route("/of-b", &format!("accept = [\"session\", \"bearer\"]\nallow = \"any-authenticated\"\nprovider = [\"{}\"]", b.issuer())),
            route(
                "/either",
                &format!(
                    "accept = [\"bearer\"]\nallow = {{ any_of = [{{ scopes = [\"x\"], provider = [\"{}\"] }}, {{ scopes = [\"y\"], provider = [\"none\"] }}] }}",
                    a.issuer()
                )
                .replace("\"none\"", &format!("\"{}\"", a.issuer())),
            ),
            route("/optional", "access = \"optional\"\naccept = [\"bearer\"]"),
            route("/mixed", "accept = [\"bearer\"]\nallow = { scopes = [\"write\"] }\nmethods = [\"POST\"]"),
            "[[route]]\nid = \"other\"\nhost = \"api.example.test\"\naccept = [\"bearer\"]\nallow = \"any-authenticated\"\n".to_owned(),
            "[[route]]\nid = \"regex\"\npath_regex = \"/things/[0-9]+\"\naccept = [\"bearer\"]\nallow = \"any-authenticated\"\n".to_owned(),
        ];
        let issuer = |hostile: &HostileProvider| format!("[[token_issuer]]\nissuer = \"{}\"\naudience = \"api\"\n", hostile.issuer());
        let people = provider(&a.issuer(), a.client_id(), a.client_secret());
        let config = format!("{TOP}store.kind = \"memory\"\n{people}{}{}{}", issuer(&a), issuer(&b), routes.concat());
        let gateway = Gateway::start(&config);
        Self { a, b, upstream, gateway }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.url)
    }

    async fn metadata(&self, of: &str) -> Answer {
        fetch(get(&self.url(&format!("{WELL_KNOWN}{of}")))).await
    }

    /// The document, with this resource in it.
    async fn told(&self, of: &str) -> Value {
        let answer = self.metadata(of).await;
        assert_eq!(answer.status, 200, "{of}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let mut document = answer.json();
        // RFC 9728 §3.3: what the well-known part was put into.
        assert_eq!(document["resource"], self.url(of), "{of}");
        document.as_object_mut().expect("an object").remove("resource");
        document
    }

    /// The path goes to the app at `/`.
    async fn is_the_apps(&self, of: &str) {
        let before = self.upstream.count();
        assert_eq!(self.metadata(of).await.status, 200);
        assert_eq!(self.upstream.count(), before + 1, "{of}");
        assert_eq!(self.upstream.last().target, format!("{WELL_KNOWN}{of}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_with_bearer_tokens_says_whose_and_how() {
    let world = World::start();
    let (a, b) = (world.a.issuer(), world.b.issuer());
    let header = json!(["header"]);
    for (of, expected) in [
        ("/api", json!({ "authorization_servers": [a, b], "scopes_supported": ["read", "write"], "bearer_methods_supported": header })),
        (
            "/api/deep/er/",
            json!({ "authorization_servers": [a, b], "scopes_supported": ["read", "write"], "bearer_methods_supported": header }),
        ),
        (
            "/api/x?a=b%20c&d",
            json!({ "authorization_servers": [a, b], "scopes_supported": ["read", "write"], "bearer_methods_supported": header }),
        ),
        ("/api/old", json!({ "authorization_servers": [a, b], "bearer_methods_supported": ["header", "body", "query"] })),
        ("/api/named", json!({ "authorization_servers": [a, b] })),
        ("/of-b", json!({ "authorization_servers": [b], "bearer_methods_supported": header })),
        ("/either", json!({ "authorization_servers": [a], "scopes_supported": ["x", "y"], "bearer_methods_supported": header })),
        ("/optional", json!({ "authorization_servers": [a, b], "bearer_methods_supported": header })),
        ("/mixed", json!({ "authorization_servers": [a, b], "scopes_supported": ["write"], "bearer_methods_supported": header })),
        ("/things/7", json!({ "authorization_servers": [a, b], "bearer_methods_supported": header })),
    ] {
        assert_eq!(world.told(of).await, expected, "{of}");
    }
    // Another host is another resource, told by the name that it has outside.
    let request = Request::get(world.url(WELL_KNOWN)).header("host", "api.example.test");
    let document = fetch(request.body(empty()).expect("a request")).await.json();
    let port = world.gateway.address.port();
    assert_eq!(document["resource"], format!("http://api.example.test:{port}"));
    assert_eq!(world.upstream.count(), 0);
    assert_eq!(world.gateway.metric("doorward_requests_total{route=\"doorward\",reason=\"endpoint\"}").await, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_route_takes_bearer_tokens_the_path_is_the_apps() {
    let world = World::start();
    for of in ["", "/", "/people", "/people/x", "/api/open", "/api/open/x", "/unknown", "/things/x", "x", "-x/api"] {
        world.is_the_apps(of).await;
    }
    // Where there is no app either, there is nothing.
    let request = Request::get(world.url(&format!("{WELL_KNOWN}/x"))).header("host", "nobody.example.test");
    let answer = fetch(request.body(empty()).expect("a request")).await;
    assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (421, "host-unknown"));
    let before = world.upstream.count();
    let upstream = world.upstream.url();
    let issuer = world.a.issuer();
    let bare = |path: &str, rest: &str| format!("[[route]]\npath = \"{path}\"\nupstream = \"{upstream}\"\n{rest}\n");
    let api = bare("/api", "accept = [\"bearer\"]\nallow = \"any-authenticated\"");
    let issuers = format!("[[token_issuer]]\nissuer = \"{issuer}\"\naudience = \"api\"\n");
    let gateway = Gateway::start(&format!("{TOP}store.kind = \"memory\"\n{issuers}{api}"));
    for of in ["", "/x", "/apix"] {
        let answer = fetch(get(&format!("{}{WELL_KNOWN}{of}", gateway.url))).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (404, "no-route"), "{of}");
    }
    assert_eq!(world.upstream.count(), before);
    // An app with a route for it says it itself.
    let own = bare(&format!("{WELL_KNOWN}/api/"), "access = \"public\"");
    let gateway = Gateway::start(&format!("{TOP}store.kind = \"memory\"\n{issuers}{api}{own}"));
    assert_eq!(fetch(get(&format!("{}{WELL_KNOWN}/api", gateway.url))).await.status, 200);
    assert_eq!(world.upstream.last().target, format!("{WELL_KNOWN}/api"));
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_may_read_it_and_a_browsers_script_too() {
    let world = World::start();
    let url = world.url(&format!("{WELL_KNOWN}/api"));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let preflight = Request::options(&url)
            .header("origin", "https://tool.test")
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "mcp-protocol-version");
        let answer = HttpClient::new().speaking(protocol).fetch(preflight.body(empty()).expect("a request")).await;
        assert_eq!(answer.status, 204);
        let told =
            ["access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers"].map(|name| answer.header(name));
        assert_eq!(told, [Some("*"), Some("GET, HEAD"), Some("*")]);
    }
    // A bad credential has no part in it.
    let shown = Request::get(&url).header("authorization", "Bearer bad").header("cookie", "doorward=bad");
    assert_eq!(fetch(shown.body(empty()).expect("a request")).await.status, 200);
    assert_eq!(fetch(Request::head(&url).body(empty()).expect("a request")).await.status, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = fetch(Request::builder().method(method).uri(&url).body(empty()).expect("a request")).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (405, "method-not-allowed"), "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bearer_challenge_names_the_metadata_of_the_routes_resource() {
    let world = World::start();
    let weak = world.a.access_token(json!({ "aud": "api", "scope": "read" }), "at+jwt");
    for (path, shown, status, expected) in [
        ("/api/orders/7?x=y", None, 401, "no-credential"),
        ("/api/orders/7?x=y", Some("Bearer abc".to_owned()), 401, "token-malformed"),
        ("/api", Some("Bearer a b".to_owned()), 400, "authorization-malformed"),
        ("/api/orders", Some(format!("Bearer {weak}")), 403, "insufficient-scope"),
    ] {
        let mut request = Request::get(world.url(path));
        if let Some(shown) = shown {
            request = request.header("authorization", shown);
        }
        let answer = fetch(request.body(empty()).expect("a request")).await;
        assert_eq!((answer.status.as_u16(), reason(&answer).as_str()), (status, expected));
        let lines = answer.header_all("www-authenticate");
        let metadata = format!(", resource_metadata=\"{}\"", world.url(&format!("{WELL_KNOWN}/api")));
        assert!(lines[0].starts_with("Bearer ") && lines.iter().all(|line| line.ends_with(&metadata)), "{lines:?}");
    }
    let named = async |path: &str| {
        let answer = fetch(get(&world.url(path))).await;
        let line = answer.header("www-authenticate").expect("a challenge").to_owned();
        let url = line.split("resource_metadata=\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
        (line, url)
    };
    // What is named is there, and names its resource.
    for path in ["/api/x", "/of-b/x/y", "/either", "/things/7"] {
        let url = named(path).await.1.unwrap_or_else(|| panic!("{path}: no resource_metadata"));
        let document = fetch(get(&url)).await.json();
        assert_eq!(document["resource"].as_str().expect("a resource"), url.replace(WELL_KNOWN, ""));
        assert!(world.url(path).starts_with(document["resource"].as_str().expect("a resource")));
    }
    // Where no bearer token is taken none is asked for.
    let (line, url) = named("/people").await;
    assert!(line.starts_with("Doorward-Session") && url.is_none(), "{line}");
    assert_eq!(world.upstream.count(), 0);
}

/// A script of `tests/mcp`.
fn mcp(script: &str) -> Launch {
    let script = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp")).join(script);
    let modules = script.with_file_name("node_modules");
    assert!(modules.is_dir(), "{} is missing: run tests/run, it installs what the tests need", modules.display());
    Launch::new(std::env::var_os("DOORWARD_TEST_NODE").unwrap_or_else(|| "node".into())).arg(script).with_stdin()
}

async fn line_of(process: &Process, member: &str) -> Value {
    let start = format!("{{\"{member}\":");
    let line = process.wait_for_line(|line| line.starts_with(&start), PATIENCE).await;
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The SDK's server behind the gateway, and the certified provider, which issues tokens for it.
struct Tools {
    gateway: Gateway,
    provider: crate::harness::oidc_provider::OidcProvider,
    server: Process,
    port: u64,
}

/// Of the client with which a person signs in.
const REDIRECT_URI: &str = "http://127.0.0.1:9/callback";

impl Tools {
    async fn start() -> Self {
        let server = mcp("server.mjs").start();
        let port = line_of(&server, "port").await["port"].as_u64().expect("a port");
        let gateway_port = free_port();
        let resource = format!("http://127.0.0.1:{gateway_port}/mcp");
        let client = |id: &str, grant: &str, auth: &str| {
            let code = grant == "authorization_code";
            json!({
                "client_id": id, "grant_types": [grant], "response_types": if code { json!(["code"]) } else { json!([]) },
                "redirect_uris": if code { json!([REDIRECT_URI]) } else { json!([]) }, "token_endpoint_auth_method": auth,
                "application_type": "native",
            })
        };
        let mut program = client("program", "client_credentials", "client_secret_basic");
        program["client_secret"] = json!("a-secret-of-the-program-only-0123456789");
        let provider = OidcProviderBuilder::new("http://127.0.0.1:9/unused")
            .add_client(program)
            .add_client(client("person", "authorization_code", "none"))
            .set("scopes", json!(["tools"]))
            .set("resources", json!({ resource.as_str(): { "audience": resource, "scope": "tools", "format": "jwt" } }))
            .start()
            .await;
        let config = format!(
            "{TOP}store.kind = \"memory\"\n[[token_issuer]]\nissuer = \"{}\"\naudience = \"{resource}\"\n\
             [[route]]\nid = \"tools\"\npath = \"/mcp\"\nupstream = \"http://127.0.0.1:{port}\"\nallow = {{ scopes = [\"tools\"] }}\n",
            provider.issuer()
        );
        Self { gateway: Gateway::start_on(gateway_port, &config), provider, server, port }
    }

    /// The headers of the requests that reached the server.
    async fn seen(&self) -> Vec<Value> {
        fetch(get(&format!("http://127.0.0.1:{}/seen", self.port))).await.json().as_array().expect("a list").clone()
    }

    fn client(&self, more: Value) -> Process {
        let mut config = json!({ "url": format!("{}/mcp", self.gateway.url), "issuer": self.provider.issuer() });
        more.as_object().expect("an object").iter().for_each(|(name, value)| config[name] = value.clone());
        mcp("client.mjs").arg(config.to_string()).start()
    }

    /// It went from the 401 to the metadata, from there to the provider and back with a token; the server saw nobody before, and no token then.
    async fn found_its_way(&self, done: &Value, user: &str) {
        assert_eq!(done["answer"], user, "{done}");
        let steps: Vec<&str> = done["steps"].as_array().expect("steps").iter().filter_map(Value::as_str).collect();
        let (gateway, issuer) = (&self.gateway.url, self.provider.issuer());
        let mut from = 0;
        for step in [
            format!("POST {gateway}/mcp 401"),
            format!("GET {gateway}{WELL_KNOWN}/mcp 200"),
            format!("GET {issuer}/.well-known/openid-configuration 200"),
            format!("POST {issuer}/token 200"),
            format!("POST {gateway}/mcp 200"),
        ] {
            let at = steps.iter().skip(from).position(|found| *found == step);
            from += at.unwrap_or_else(|| panic!("no {step} in {steps:#?} after the step before")) + 1;
        }
        let seen = self.seen().await;
        assert!(!seen.is_empty() && seen.iter().all(|request| request["headers"]["x-forwarded-user"] == user), "{seen:#?}");
        assert!(seen.iter().all(|request| request["headers"].get("authorization").is_none()), "{seen:#?}");
        assert!(self.gateway.metric("doorward_requests_total{route=\"tools\",reason=\"no-credential\"}").await >= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_mcp_client_finds_the_provider_by_itself_and_calls_with_a_token_of_its_own() {
    let tools = Tools::start().await;
    let client =
        tools.client(json!({ "client_id": "program", "client_secret": "a-secret-of-the-program-only-0123456789", "scope": "tools" }));
    let done = line_of(&client, "answer").await;
    tools.found_its_way(&done, "program").await;
    assert!(tools.server.status().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_mcp_client_sends_a_person_to_the_provider_and_calls_with_their_token() {
    use crate::harness::browser::Browser;
    use crate::harness::oidc_provider::{PASSWORD, walk_to_callback};
    let tools = Tools::start().await;
    let client = tools.client(json!({ "client_id": "person", "redirect_uri": REDIRECT_URI }));
    let authorize = line_of(&client, "authorize").await;
    let mut browser = Browser::new();
    let page = browser.get(authorize["authorize"].as_str().expect("a URL")).await;
    let page = walk_to_callback(&mut browser, page, "alice", PASSWORD, REDIRECT_URI).await;
    let back = page.next().expect("the way back");
    let code = back.query_pairs().find(|(name, _)| name == "code").expect("a code").1.into_owned();
    assert!(client.write(&format!("{code}\n")));
    let done = line_of(&client, "answer").await;
    tools.found_its_way(&done, "alice").await;
}
