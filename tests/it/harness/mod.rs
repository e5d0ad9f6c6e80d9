//! What the tests stand on: peers that are not ours (upstream, providers, browser, Redis, front proxies) and the means to speak to
//! them. Nothing here knows the gateway's own types, so that a mistake in those cannot hide itself.
//!
//! - speaking HTTP: [`http`] (a client; what it brings: [`answer`]), [`body`] (streamed bodies), [`raw`] (bytes that no client would
//!   send), [`raw_h2`] (the same for HTTP/2 frames), [`websocket`], [`held`] (streams that note when they were
//!   ended)
//! - a person: [`browser`] with its [`visit`], [`page`], [`cookies`] and [`html`], or the real one, [`chromium`]
//! - behind the gateway: [`upstream`] with its [`upstream_paths`], and [`guarded`], which wants a token, on [`server`]
//! - providers: [`oidc_provider`] (the certified one, on node), [`hostile`] (one that lies; its parts: `hostile_*`) with keys and
//!   signatures by [`jose`]; [`token_issuer`] says about tokens what it is told
//! - others whose tokens are taken: [`graph`] (Facebook's Graph API)
//! - what is sent about requests: [`collector`] of traces
//! - gRPC by another hand, both ends: [`grpc`]
//! - other programs: [`process`], [`fronts`] (nginx, Caddy, haproxy, Traefik, Envoy), [`forward_proxy`] (squid), [`load`] (wrk), [`redis`] over [`resp`], several of them as [`redis_groups`], and [`stalling`],
//!   which stands between and holds back what they say
//! - what is tested: [`gateway`], two of them on one store ([`pair`], and
//!   [`twins`] on one clock), and with provider and upstream around it: [`world`] (people),
//!   [`scene`] (requests and headers)
//! - what earlier releases left: [`fixtures`]
//! - small things: [`certs`], [`durations`], [`temp`], [`wait`], [`background`]
//!
//! Servers run on threads of their own ([`background`]), so that a test may block. Every child process is killed and reaped when its
//! value is dropped. A missing program fails the test and says how to get it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "test code: it fails loudly, reads the clock, and is wider than the tests of one day"
)]

pub mod answer;
pub mod background;
pub mod body;
pub mod browser;
pub mod certs;
pub mod chromium;
pub mod collector;
pub mod cookies;
pub mod dns;
pub mod dpop;
pub mod durations;
pub mod fixtures;
pub mod forward_proxy;
pub mod fronts;
pub mod gateway;
pub mod graph;
pub mod grpc;
pub mod guarded;
pub mod held;
pub mod hostile;
pub mod hostile_answer;
pub mod hostile_direct;
pub mod hostile_endpoints;
pub mod hostile_grants;
pub mod hostile_lie;
pub mod hostile_machine;
pub mod hostile_mint;
pub mod hostile_sayings;
pub mod hostile_state;
pub mod hostile_token;
pub mod html;
pub mod http;
pub mod jose;
pub mod load;
pub mod mutual_tls;
pub mod oidc_provider;
pub mod page;
pub mod pair;
pub mod plain;
pub mod process;
pub mod raw;
pub mod raw_h2;
pub mod redis;
pub mod redis_groups;
pub mod resp;
pub mod scene;
pub mod server;
pub mod stalling;
pub mod temp;
pub mod token_issuer;
pub mod twins;
pub mod upstream;
pub mod upstream_paths;
pub mod visit;
pub mod wait;
pub mod websocket;
pub mod world;
