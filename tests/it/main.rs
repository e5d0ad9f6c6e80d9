//! The integration tests: one binary, one module a capability. `harness` is what they stand on.

mod harness;

mod bounds; // how many logins may be under way: of a browser, of an address, in all; and how old an attempt may be
mod callback; // back button, bookmark, twice, stolen, forged: nothing is spent
mod hostile; // a provider that lies: every lie has its reason, and nobody is let in
mod login; // a browser signs in through the real provider, comes back, signs out
mod providers; // several providers, and one that is down
mod redirects; // where people may be sent: never to a stranger's place
mod sessions; // cookies, lifetimes, who is signed in
mod sign_out; // signing out, here and at the provider
