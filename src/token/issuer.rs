//! Whose tokens a provider's are: one issuer's, or those of several tenants who share its addresses (Entra ID), each of them an issuer of
//! its own.

use super::claims::{self, brief};
use super::jwk::Found;
use crate::fault::Fault;
use crate::identity::Claims;
use crate::reason::Reason;

/// What stands for the tenant in a shared document's `issuer`.
const TENANT: &str = "{tenantid}";
/// What stands for it in a shared address.
const SHARED: [&str; 2] = ["common", "organizations"];

/// An issuer, or several behind one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// Exactly this one.
    One(String),
    /// One for each of these tenants.
    Tenants(Tenants),
}

/// Tenants who share their provider's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    address: String,
    template: String,
    ids: Vec<String>,
}

impl Issuer {
    /// The issuers of these tenants. `None` when no one piece of the address's path stands for all of them: `organizations` or `common`.
    #[must_use]
    pub fn of_tenants(address: &str, ids: Vec<String>) -> Option<Self> {
        let mut shared = address.split('/').filter(|piece| SHARED.contains(piece));
        if shared.next().is_none() || shared.next().is_some() {
            return None;
        }
        let pieces: Vec<&str> = address.split('/').map(|piece| if SHARED.contains(&piece) { TENANT } else { piece }).collect();
        Some(Self::Tenants(Tenants { address: address.to_owned(), template: pieces.join("/"), ids }))
    }

    /// Where it is asked for its document, as it was written; its name in messages and metrics.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::One(issuer) => issuer,
            Self::Tenants(tenants) => &tenants.address,
        }
    }

    /// What its document has to name as `issuer`.
    #[must_use]
    pub fn in_document(&self) -> &str {
        match self {
            Self::One(issuer) => issuer,
            Self::Tenants(tenants) => &tenants.template,
        }
    }

    /// Whether this is its `iss`, or that of one of its tenants, letter by letter.
    #[must_use]
    pub fn is(&self, iss: &str) -> bool {
        match self {
            Self::One(issuer) => issuer == iss,
            Self::Tenants(tenants) => tenants.id_of(iss).is_some(),
        }
    }

    /// Every `iss` that is its own.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        match self {
            Self::One(issuer) => vec![issuer.clone()],
            Self::Tenants(tenants) => tenants.ids.iter().map(|id| tenants.issuer_of(id)).collect(),
        }
    }

    /// Judges `iss` of verified claims; of a tenant's also that its `tid` is the one in `iss`, and listed.
    pub(super) fn check(&self, claims: &Claims) -> Result<(), Fault> {
        let missing = |error: claims::ClaimsError| Fault::new(Reason::IdTokenClaims, error.0);
        let iss = claims::text(claims, "iss").map_err(missing)?;
        let expected = match self {
            Self::One(issuer) => issuer.clone(),
            Self::Tenants(tenants) => tenants.issuer_of(claims::text(claims, "tid").map_err(missing)?),
        };
        if iss != expected {
            return Err(Fault::new(Reason::IdTokenIssuer, format!("iss is {:?}, not {:?}", brief(iss), brief(&expected))));
        }
        if !self.is(iss) {
            return Err(Fault::new(Reason::TenantUnlisted, format!("{:?} is not the issuer of any of tenants", brief(iss))));
        }
        Ok(())
    }

    /// Whether a key may sign for this `iss`. A shared set of keys may say of each whose it is.
    pub(crate) fn signs_with(&self, key: &Found<'_>, iss: &str) -> bool {
        match (self, key.issuer()) {
            (Self::One(_), _) | (Self::Tenants(_), None) => true,
            (Self::Tenants(tenants), Some(whose)) => tenants.id_of(iss).is_some_and(|id| whose.replace(TENANT, id) == iss),
        }
    }
}

impl Tenants {
    fn issuer_of(&self, id: &str) -> String {
        self.template.replace(TENANT, id)
    }

    fn id_of(&self, iss: &str) -> Option<&String> {
        self.ids.iter().find(|id| self.issuer_of(id) == iss)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const A: &str = "11111111-1111-1111-1111-111111111111";
    const B: &str = "22222222-2222-2222-2222-222222222222";

    fn shared() -> Issuer {
        Issuer::of_tenants("https://login.test/organizations/v2.0", vec![A.to_owned()]).unwrap()
    }

    #[test]
    fn a_tenants_token_names_its_own_issuer_and_no_other() {
        let issuer = shared();
        assert_eq!(issuer.in_document(), "https://login.test/{tenantid}/v2.0");
        assert_eq!(issuer.all(), [format!("https://login.test/{A}/v2.0")]);
        let judged = |claims: Value| issuer.check(claims.as_object().unwrap()).map_err(|fault| fault.reason);
        let of = |id: &str| format!("https://login.test/{id}/v2.0");
        for (claims, expected) in [
            (json!({ "iss": of(A), "tid": A }), Ok(())),
            (json!({ "iss": of(B), "tid": B }), Err(Reason::TenantUnlisted)),
            (json!({ "iss": of(A), "tid": B }), Err(Reason::IdTokenIssuer)),
            (json!({ "iss": of(B), "tid": A }), Err(Reason::IdTokenIssuer)),
            (json!({ "iss": of("{tenantid}"), "tid": "{tenantid}" }), Err(Reason::TenantUnlisted)),
            (json!({ "iss": "https://login.test/organizations/v2.0", "tid": A }), Err(Reason::IdTokenIssuer)),
            (json!({ "iss": format!("{}/", of(A)), "tid": A }), Err(Reason::IdTokenIssuer)),
            (json!({ "iss": of(A) }), Err(Reason::IdTokenClaims)),
            (json!({ "iss": of(A), "tid": 7 }), Err(Reason::IdTokenClaims)),
            (json!({ "tid": A }), Err(Reason::IdTokenClaims)),
        ] {
            assert_eq!(judged(claims.clone()), expected, "{claims}");
        }
    }

    #[test]
    fn an_address_says_once_where_the_tenant_stands() {
        for address in ["https://login.test/v2.0", "https://login.test/common/organizations", "https://organizations.test/v2.0"] {
            assert_eq!(Issuer::of_tenants(address, vec![A.to_owned()]), None, "{address}");
        }
        assert!(Issuer::of_tenants("https://login.test/common/v2.0", vec![]).is_some());
    }
}
