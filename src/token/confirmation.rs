//! To what key a token is bound: its `cnf` claim (RFC 7800 §3.1), by the two methods that the gateway can check.

use serde_json::Value;

use crate::fault::Fault;
use crate::identity::Claims;
use crate::reason::Reason;

/// What has to be proven beside the token. Where both are there, both have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// SHA-256 thumbprint of the key of a DPoP proof, base64url (RFC 9449 §6.1).
    pub jkt: Option<String>,
    /// SHA-256 thumbprint of a certificate, base64url (RFC 8705 §3.1).
    pub x5t_s256: Option<String>,
}

impl Confirmation {
    /// What these claims are bound to; `None`: to nothing.
    ///
    /// # Errors
    /// A `cnf` by a method that the gateway does not know, or by none: a token that is bound somehow counts only with its proof.
    pub fn of(claims: &Claims) -> Result<Option<Self>, Fault> {
        let Some(cnf) = claims.get("cnf") else { return Ok(None) };
        let bound = |detail: &str| Fault::new(Reason::TokenBound, detail);
        let members = cnf.as_object().ok_or_else(|| bound("cnf is no object"))?;
        let mut confirmation = Self { jkt: None, x5t_s256: None };
        for (name, value) in members {
            let place = match name.as_str() {
                "jkt" => &mut confirmation.jkt,
                "x5t#S256" => &mut confirmation.x5t_s256,
                _ => return Err(bound("the token is bound in a way that the gateway cannot check (cnf)")),
            };
            let Value::String(thumbprint) = value else { return Err(bound("a thumbprint in cnf is no text")) };
            *place = Some(thumbprint.clone());
        }
        if members.is_empty() { Err(bound("cnf is empty")) } else { Ok(Some(confirmation)) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_bound_to_what_it_says_and_to_nothing_unknown() {
        let of = |claims: Value| Confirmation::of(claims.as_object().unwrap());
        assert_eq!(of(json!({})), Ok(None));
        let both = Confirmation { jkt: Some("a".into()), x5t_s256: Some("b".into()) };
        assert_eq!(of(json!({"cnf": {"jkt": "a", "x5t#S256": "b"}})), Ok(Some(both)));
        for cnf in [json!({}), json!(null), json!("a"), json!({"jkt": 1}), json!({"jwk": {}}), json!({"jkt": "a", "kid": "b"})] {
            assert_eq!(of(json!({ "cnf": cnf })).unwrap_err().reason, Reason::TokenBound, "{cnf}");
        }
    }
}
