//! What an issuer said of somebody, kept small while nobody asks.

use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Claims, Packing, Text};

/// Claims that read like a [`Claims`]. Packed they are one JSON text, an eighth of the map; whoever reads one unpacks them all, once and for
/// as long as they live.
#[derive(Default)]
pub struct Said {
    packed: Option<Text>,
    claims: OnceLock<Box<Claims>>,
}

impl Said {
    /// Them as JSON.
    pub(super) fn text(&self) -> String {
        match &self.packed {
            Some(packed) => packed.as_str().to_owned(),
            // Nothing that is JSON fails to be written; should it ever, `packed` finds nothing to read.
            None => serde_json::to_string(&**self).unwrap_or_default(),
        }
    }

    /// The same, packed, for those that are kept for long and in numbers. `packing` was made of [`Said::text`].
    #[must_use]
    pub(super) fn packed(&self, packing: &Packing) -> Self {
        match self.text() {
            nothing if nothing.is_empty() => self.clone(),
            text => Self { packed: Some(packing.part(&text)), claims: OnceLock::new() },
        }
    }
}

impl From<Claims> for Said {
    fn from(claims: Claims) -> Self {
        Self { packed: None, claims: OnceLock::from(Box::new(claims)) }
    }
}

impl Deref for Said {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        // The text was written from such a map, so it reads as one.
        self.claims.get_or_init(|| Box::new(self.packed.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()))
    }
}

impl Clone for Said {
    fn clone(&self) -> Self {
        Self { packed: self.packed.clone(), claims: self.claims.clone() }
    }
}

impl PartialEq for Said {
    fn eq(&self, other: &Self) -> bool {
        // The same claims make the same text; nothing is unpacked for this.
        match (&self.packed, &other.packed) {
            (Some(one), Some(two)) => one == two,
            _ => **self == **other,
        }
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for Said {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Claims::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn packed_claims_read_as_they_were() {
        let claims =
            json!({"sub": "ann", "acr": "mfa", "groups": ["a", "b"], "deep": {"er": [1, null, true, 1.5]}, "name": "Änn \u{1F600}"});
        let said = Said::from(claims.as_object().unwrap().clone());
        let pack = |said: &Said| said.packed(&Packing::new(said.text(), []));
        let packed = pack(&said);
        assert_eq!(packed, said);
        assert_eq!(packed.get("deep").and_then(|deep| deep.get("er")), claims["deep"].get("er"));
        assert_eq!((pack(&packed), packed.clone()), (said.clone(), said.clone()));
        assert_eq!(serde_json::to_value(&packed).unwrap(), claims);
        assert_eq!(serde_json::from_value::<Said>(claims).unwrap(), packed);
        assert!(pack(&Said::default()).is_empty() && pack(&Said::default()).get("sub").is_none_or(Value::is_null));
    }
}
