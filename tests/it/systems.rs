//! Four systems that work through the gateway, each by its original steps against real parts.

mod mobile_apps; // login for mobile apps: a password or a Facebook token for one opaque token in header, query or body
