//! Scopes, as issuers write them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::identity::{ClaimPath, Claims};

/// The scopes under `claim`; where the config names none under `scope`, else `scp`. A text with spaces between (RFC 9068 §2.2.3, RFC 8693
/// §4.2, RFC 7662 §2.2), or a list as some issuers send it.
pub(super) fn of(claims: &Claims, claim: Option<&ClaimPath>) -> BTreeSet<String> {
    let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let found = match claim {
        Some(path) => path.find(claims),
        None => claims.get("scope").or_else(|| claims.get("scp")),
    };
    match found {
        Some(Value::String(text)) => words(text).into_iter().collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).flat_map(words).collect(),
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(claims: Value, claim: Option<&str>) -> Vec<String> {
        let path = claim.and_then(ClaimPath::parse);
        of(claims.as_object().unwrap(), path.as_ref()).into_iter().collect()
    }

    #[test]
    fn scopes_are_a_text_or_a_list_under_scope_or_scp() {
        assert_eq!(found(json!({"scope": "a  b", "scp": ["c"]}), None), ["a", "b"]);
        assert_eq!(found(json!({"scp": ["c", "d e", 7]}), None), ["c", "d", "e"]);
        assert!(found(json!({"scope": 7}), None).is_empty());
    }

    #[test]
    fn a_claim_that_is_named_alone_counts() {
        let claims = json!({"scope": "a", "permissions": ["b", "c"], "realm": {"roles": ["d"]}});
        assert_eq!(found(claims.clone(), Some("permissions")), ["b", "c"]);
        assert_eq!(found(claims.clone(), Some("realm.roles")), ["d"]);
        assert!(found(claims, Some("nothing")).is_empty());
    }
}
