//! What a token has to be bound to on a route, and how its proof is asked for.

/// `dpop`, `dpop_nonce`, `dpop_proof` and `certificate_bound` of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// By DPoP (RFC 9449).
    pub dpop: Bound,
    /// By a certificate (RFC 8705 §3).
    pub certificate: Bound,
    /// Whether a DPoP proof has to hold a nonce of ours.
    pub nonce: NonceRule,
    /// What the upstream gets of a DPoP proof and its token.
    pub proof: ProofFate,
}

impl Binding {
    /// A token that says that it is bound has to be proven; one that does not may come without.
    pub const AS_THE_TOKEN_SAYS: Self =
        Self { dpop: Bound::Accepted, certificate: Bound::Accepted, nonce: NonceRule::Unasked, proof: ProofFate::Removed };
}

/// Whether tokens have to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Where they say so themselves.
    Accepted,
    /// All of them.
    Required,
}

/// Whether a DPoP proof has to hold a nonce (RFC 9449 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceRule {
    /// It is judged by its `iat`.
    Unasked,
    /// It is judged by the nonce, which the gateway gives out.
    Asked,
}

/// What the upstream gets of a DPoP proof and its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofFate {
    /// Neither.
    Removed,
    /// Both as they came: it checks them again.
    Forwarded,
}
