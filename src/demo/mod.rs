//! `doorward demo`: gateway, provider and sample app on loopback, in one process. It shows what the gateway does; it protects nothing.
//!
//! `provider` is a small OpenID provider with two users, `sample` the app behind, `serve` the HTTP around both, `lines` what is printed.

mod lines;
mod provider;
mod sample;
mod serve;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;

use crate::app::{App, Options, StartError};
use crate::clock::SharedClock;
use crate::config::{Config, Problem, Sources, load};
use crate::tasks::Tasks;

pub use lines::lines;
pub use provider::DemoProvider;

/// Somebody who can sign in.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// Their name, also `sub`.
    pub name: &'static str,
    /// Shown on the login page: this is a demo.
    pub password: &'static str,
    /// For the page.
    pub about: &'static str,
    /// What they are a member of.
    pub groups: &'static [&'static str],
}

/// Everybody.
pub const USERS: [User; 2] = [
    User { name: "alice", password: "wonderland", about: "Alice, in the group staff", groups: &["staff"] },
    User { name: "bob", password: "builder", about: "Bob, outside it", groups: &["guests"] },
];

/// A running demo.
pub struct Demo {
    /// The gateway.
    pub app: App,
    /// Where it is.
    pub url: String,
    /// The provider, which also issues tokens for programs.
    pub provider: Arc<DemoProvider>,
}

/// Why a demo does not start.
#[derive(Debug)]
pub enum DemoError {
    /// No port could be had.
    Listen(std::io::Error),
    /// The demo's own config has problems: a defect.
    Config(Vec<Problem>),
    /// The gateway does not start.
    Start(StartError),
}

impl std::fmt::Display for DemoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listen(error) => write!(f, "no port on loopback: {error}"),
            Self::Config(problems) => problems.iter().try_for_each(|problem| write!(f, "{problem}; ")),
            Self::Start(error) => error.fmt(f),
        }
    }
}

/// Starts everything. `listen` is the gateway's port on loopback; 0 is any that is free.
///
/// # Errors
/// When a port cannot be had.
pub async fn start(listen: u16, clock: SharedClock, tasks: Tasks) -> Result<Demo, DemoError> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let provider_listener = TcpListener::bind(any).await.map_err(DemoError::Listen)?;
    let sample_listener = TcpListener::bind(any).await.map_err(DemoError::Listen)?;
    let issuer = format!("http://{}", provider_listener.local_addr().map_err(DemoError::Listen)?);
    let sample = format!("http://{}", sample_listener.local_addr().map_err(DemoError::Listen)?);
    // The port is part of public_url, so it has to be known before the gateway binds it.
    let port = free_port(listen).map_err(DemoError::Listen)?;
    let url = format!("http://127.0.0.1:{port}");
    let provider = Arc::new(DemoProvider::new(issuer.clone(), url.clone(), Arc::clone(&clock)));
    let config = config(&url, port, &issuer, &sample, provider.client_secret()).map_err(DemoError::Config)?;
    let (for_provider, for_sample) = (Arc::clone(&provider), url.clone());
    tasks.background(serve::serve(provider_listener, tasks.clone(), move |request| {
        let provider = Arc::clone(&for_provider);
        async move { provider.answer(request).await }
    }));
    tasks.background(serve::serve(sample_listener, tasks.clone(), move |request| {
        let url = for_sample.clone();
        async move { sample::answer(&url, &request) }
    }));
    // Access lines go to stderr: what stdout holds is to be pasted.
    let options = Options { access_lines: Box::new(std::io::stderr()), ..Options::default() };
    let app = App::start_with(config, clock, options).map_err(DemoError::Start)?;
    Ok(Demo { app, url, provider })
}

/// The port that was asked for, else one that is free.
fn free_port(wanted: u16) -> std::io::Result<u16> {
    let bound =
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).or_else(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(bound.local_addr()?.port())
}

/// The demo's config, read by the same code as any other.
fn config(url: &str, port: u16, issuer: &str, sample: &str, client_secret: &str) -> Result<Config, Vec<Problem>> {
    let routes = json!([
        {"id": "public", "path": "/public/", "access": "public", "upstream": sample},
        {"id": "app", "path": "/", "allow": "any-authenticated", "upstream": sample},
        {"id": "staff", "path": "/staff/", "allow": {"groups": ["staff"]}, "upstream": sample},
        {"id": "api", "path": "/api/", "accept": ["bearer"], "allow": {"scopes": ["demo:read"]}, "upstream": sample},
    ]);
    let issuers = json!([{"issuer": issuer, "audience": "doorward-demo"}]);
    let pairs = [
        ("public_url", url.to_owned()),
        ("listen", format!("127.0.0.1:{port}")),
        ("admin.listen", "127.0.0.1:0".to_owned()),
        ("trusted_proxies", "127.0.0.1".to_owned()),
        ("provider.issuer", issuer.to_owned()),
        ("provider.name", "Demo provider".to_owned()),
        ("provider.client_id", provider::CLIENT_ID.to_owned()),
        ("provider.client_secret", client_secret.to_owned()),
        ("provider.scopes", "openid,profile,email,groups".to_owned()),
        ("token_issuer", issuers.to_string()),
        ("store.kind", "memory".to_owned()),
        ("log.level", "warn".to_owned()),
        ("drain.delay", "0s".to_owned()),
        ("drain.deadline", "1s".to_owned()),
        ("pages.title", "Doorward demo".to_owned()),
        ("route", routes.to_string()),
    ];
    let flags = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    load(&Sources { file: None, environment: BTreeMap::new(), flags })
}
