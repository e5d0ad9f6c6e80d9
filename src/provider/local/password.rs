//! Password hashes: argon2id (RFC 9106) as a PHC string, or bcrypt as htpasswd writes it. What a hash costs is bounded when it is read, so
//! that no line of a config can take the machine's memory or a minute of its time.

use argon2::{Algorithm, Argon2, Params, Version};
use base64ct::{Base64Bcrypt, Base64Unpadded, Encoding as _};

use crate::secret::{Secret, random, same, sha256};

/// KiB: beyond it one sign-in would take a noticeable part of the machine.
const MOST_MEMORY: u32 = 256 * 1024;
/// KiB times passes: about a second on a slow core.
const MOST_WORK: u64 = 1024 * 1024;
const MOST_LANES: u32 = 16;
/// About two seconds.
const MOST_COST: u32 = 15;
/// Lengths of salt and hash that RFC 9106 §3.1 allows and that somebody really writes.
const SALT: std::ops::RangeInclusive<usize> = 8..=64;
const HASH: std::ops::RangeInclusive<usize> = 16..=64;
/// bcrypt looks at no more of a password.
const BCRYPT_BYTES: usize = 72;

/// What is known of somebody's password.
#[derive(Clone)]
pub struct PasswordHash(Kind);

#[derive(Clone)]
enum Kind {
    Argon2id { params: Params, salt: Vec<u8>, hash: Vec<u8> },
    Bcrypt { cost: u32, salt: [u8; 16], hash: [u8; 23] },
}

impl PasswordHash {
    /// Reads a hash as it stands in a config or an htpasswd file.
    ///
    /// # Errors
    /// What was expected; never a part of the hash.
    pub fn parse(text: &str) -> Result<Self, String> {
        let kind = if let Some(rest) = text.strip_prefix("$argon2id$") {
            argon2id(rest)?
        } else if let Some(rest) = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| text.strip_prefix(prefix)) {
            bcrypt_of(rest)?
        } else {
            return Err(format!("{}; expected argon2id (make one with `doorward hash-password`) or bcrypt (`htpasswd -B`)", foreign(text)));
        };
        Ok(Self(kind))
    }

    /// Hashes a new password with argon2id and a new salt; the PHC string. 19 MiB and two passes: what OWASP's cheat sheet asks for at least.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn make(password: &Secret) -> Result<String, String> {
        let params = Params::DEFAULT;
        let (salt, mut hash) = (random::<16>(), [0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
            .hash_password_into(password.expose().as_bytes(), &salt, &mut hash)
            .map_err(|error| error.to_string())?;
        let encode = |bytes: &[u8]| Base64Unpadded::encode_string(bytes);
        let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
        Ok(format!("$argon2id$v=19$m={m},t={t},p={p}${}${}", encode(&salt), encode(&hash)))
    }

    /// Whether this is the password. Takes its full time whatever the answer; call it off the request threads.
    #[must_use]
    pub fn verify(&self, password: &Secret) -> bool {
        let password = password.expose().as_bytes();
        match &self.0 {
            Kind::Argon2id { params, salt, hash } => {
                let mut found = vec![0; hash.len()];
                let hashed =
                    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone()).hash_password_into(password, salt, &mut found);
                hashed.is_ok() && same(&found, hash)
            }
            Kind::Bcrypt { cost, salt, hash } => {
                // What lies beyond would be ignored: two passwords would be one. The work is done all the same.
                let whole = password.len() <= BCRYPT_BYTES;
                // bcrypt's own end of a text, where there is room for it.
                let text: zeroize::Zeroizing<Vec<u8>> =
                    zeroize::Zeroizing::new(password.iter().copied().chain([0]).take(BCRYPT_BYTES).collect());
                let found = bcrypt::bcrypt(*cost, *salt, &text);
                let right = found.get(..hash.len()).is_some_and(|found| same(found, hash));
                right && whole
            }
        }
    }

    /// Tells this hash from every other one, that of the same password with another salt among them.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        match &self.0 {
            Kind::Argon2id { params, salt, hash } => {
                let costs = [params.m_cost(), params.t_cost(), params.p_cost()].map(u32::to_be_bytes).concat();
                sha256(&[b"argon2id", costs.as_slice(), &[u8::try_from(salt.len()).unwrap_or(u8::MAX)], salt, hash].concat())
            }
            Kind::Bcrypt { cost, salt, hash } => sha256(&[b"bcrypt", cost.to_be_bytes().as_slice(), salt, hash].concat()),
        }
    }

    /// A hash that takes the same time and belongs to no password: for names that nobody has.
    #[must_use]
    pub fn decoy(&self) -> Self {
        let some = |length: usize| random::<64>().into_iter().take(length).collect();
        Self(match &self.0 {
            Kind::Argon2id { params, salt, hash } => {
                Kind::Argon2id { params: params.clone(), salt: some(salt.len()), hash: some(hash.len()) }
            }
            Kind::Bcrypt { cost, .. } => Kind::Bcrypt { cost: *cost, salt: random(), hash: random() },
        })
    }

    /// Whether it is quickly guessed by whoever gets hold of the file.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        match self.0 {
            Kind::Argon2id { .. } => self.work() < 14 * 1024,
            Kind::Bcrypt { .. } => self.work() < 1 << 10,
        }
    }

    /// KiB times passes, or rounds.
    pub(super) fn work(&self) -> u64 {
        match &self.0 {
            Kind::Argon2id { params, .. } => u64::from(params.m_cost()) * u64::from(params.t_cost()),
            Kind::Bcrypt { cost, .. } => 1 << cost,
        }
    }
}

/// What the text is instead, as far as its beginning tells.
fn foreign(text: &str) -> &'static str {
    match text {
        _ if text.starts_with("{SHA}") => "is an unsalted SHA-1 hash ({SHA})",
        _ if text.starts_with("$apr1$") || text.starts_with("$1$") => "is an MD5 hash ($apr1$), htpasswd's old default",
        _ if text.starts_with("$5$") || text.starts_with("$6$") || text.starts_with("$y$") => "is a hash of crypt(3)",
        _ if text.starts_with("$argon2") => "is argon2i or argon2d",
        _ if text.starts_with("$2") => "is of a bcrypt version that is broken or unknown",
        _ if text.starts_with("password") => "is a line of a config; a file holds what stands between its quotes",
        _ => "is no password hash (crypt, or the password itself)",
    }
}

/// `v=19$m=19456,t=2,p=1$SALT$HASH`.
fn argon2id(rest: &str) -> Result<Kind, String> {
    let wrong = || "is no argon2id hash as `doorward hash-password` writes it: $argon2id$v=19$m=…,t=…,p=…$SALT$HASH".to_owned();
    let mut parts = rest.split('$');
    let (Some(version), Some(costs), Some(salt), Some(hash), None) = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong());
    };
    if version != "v=19" {
        return Err("is of an older argon2 version; make a new one with `doorward hash-password`".to_owned());
    }
    let mut costs = costs.split(',');
    let mut cost = |name: &str| costs.next().and_then(|text| text.strip_prefix(name)?.strip_prefix('=')?.parse::<u32>().ok());
    let (Some(m), Some(t), Some(p)) = (cost("m"), cost("t"), cost("p")) else { return Err(wrong()) };
    if costs.next().is_some() {
        return Err(wrong());
    }
    if m > MOST_MEMORY || u64::from(m) * u64::from(t) > MOST_WORK || p > MOST_LANES {
        return Err(format!("asks for too much: at most m={MOST_MEMORY} (KiB), m × t = {MOST_WORK} and p={MOST_LANES} are taken"));
    }
    let decode = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        Base64Unpadded::decode_vec(text).ok().filter(|bytes| lengths.contains(&bytes.len()))
    };
    let (Some(salt), Some(hash)) = (decode(salt, SALT), decode(hash, HASH)) else { return Err(wrong()) };
    let params = Params::new(m, t, p, Some(hash.len())).map_err(|_| wrong())?;
    Ok(Kind::Argon2id { params, salt, hash })
}

/// `12$` and 53 characters.
fn bcrypt_of(rest: &str) -> Result<Kind, String> {
    let wrong = || "is no bcrypt hash as `htpasswd -B` writes it: $2y$COST$ and 53 characters".to_owned();
    let (cost, rest) = rest.split_once('$').ok_or_else(wrong)?;
    let cost = Some(cost).filter(|cost| cost.len() == 2).and_then(|cost| cost.parse::<u32>().ok()).ok_or_else(wrong)?;
    if !(4..=MOST_COST).contains(&cost) {
        return Err(format!("has a bcrypt cost of {cost}: from 4 to {MOST_COST} are taken, 12 is usual"));
    }
    let (salt, hash) = rest.split_at_checked(22).ok_or_else(wrong)?;
    let decode = |text: &str| Base64Bcrypt::decode_vec(text).ok();
    let salt = decode(salt).and_then(|salt| salt.try_into().ok()).ok_or_else(wrong)?;
    let hash = decode(hash).and_then(|hash| hash.try_into().ok()).ok_or_else(wrong)?;
    Ok(Kind::Bcrypt { cost, salt, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the reference implementation of argon2 and by OpenBSD's of bcrypt, as Python's bindings give them; both of `correct horse`.
    const ARGON2ID: &str = "$argon2id$v=19$m=8,t=1,p=1$Kd0AT87+SkMV2kRWPv4RUQ$y2jQKqzvthjR1pSA29h8b5PW6lotninDMIIeUdram28";
    const BCRYPT: &str = "$2y$04$FvZ/Pz0vn2hJpe5GgaD/HezSF2u4sY7TBWxdpLaMFNa7vYtT.jky.";

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn hashes_that_others_made_are_verified() {
        for text in [ARGON2ID, BCRYPT] {
            let hash = PasswordHash::parse(text).unwrap();
            assert!(hash.verify(&secret("correct horse")), "{text}");
            for wrong in ["", "correct hors", "correct horse ", "Correct horse", "correct horse\0"] {
                assert!(!hash.verify(&secret(wrong)), "{text} takes {wrong:?}");
            }
            assert!(!hash.decoy().verify(&secret("correct horse")), "{text}");
            assert!(hash.is_weak());
        }
    }

    #[test]
    fn what_is_made_is_read_again_and_differs_each_time() {
        let made = PasswordHash::make(&secret("päss word")).unwrap();
        assert!(made.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{made}");
        assert_ne!(PasswordHash::make(&secret("päss word")).unwrap(), made);
        let hash = PasswordHash::parse(&made).unwrap();
        assert!(hash.verify(&secret("päss word")) && !hash.verify(&secret("pass word")) && !hash.is_weak());
    }

    #[test]
    fn bcrypt_takes_no_password_that_it_would_cut() {
        let (salt, long) = ([7; 16], "x".repeat(72));
        let mut hash = [0; 23];
        hash.copy_from_slice(&bcrypt::bcrypt(4, salt, long.as_bytes())[..23]);
        let hash = PasswordHash(Kind::Bcrypt { cost: 4, salt, hash });
        assert!(hash.verify(&secret(&long)));
        assert!(!hash.verify(&secret(&format!("{long}y"))));
    }

    #[test]
    fn other_hashes_are_refused_by_name_and_costs_are_bounded() {
        let salt_and_hash = ARGON2ID.split_once("p=1").unwrap().1;
        let argon2id = |costs: &str| format!("$argon2id$v=19${costs}{salt_and_hash}");
        for (text, told) in [
            ("{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=".to_owned(), "SHA-1"),
            ("$apr1$abcdefgh$0123456789012345678901".to_owned(), "MD5"),
            ("$6$salt$hash".to_owned(), "crypt(3)"),
            ("$2x$05$".to_owned() + &"a".repeat(53), "broken"),
            ("rl0uE5JIDwv3Q".to_owned(), "no password hash"),
            ("hunter2".to_owned(), "no password hash"),
            ("$argon2i$v=19$m=8,t=1,p=1$AAAA$AAAA".to_owned(), "argon2i or argon2d"),
            (ARGON2ID.replace("v=19", "v=16"), "older argon2 version"),
            (argon2id("m=4194304,t=1,p=1"), "too much"),
            (argon2id("m=262144,t=5,p=1"), "too much"),
            (argon2id("m=8,t=4294967295,p=1"), "too much"),
            (argon2id("m=8,t=1,p=17"), "too much"),
            (argon2id("t=1,m=8,p=1"), "no argon2id hash"),
            (argon2id("m=8,t=1,p=1,x=1"), "no argon2id hash"),
            (argon2id("m=1,t=1,p=1"), "no argon2id hash"),
            ("$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA".to_owned(), "no argon2id hash"),
            (BCRYPT.replace("$04$", "$31$"), "cost of 31"),
            (BCRYPT.replace("$04$", "$4$"), "no bcrypt hash"),
            (BCRYPT[..59].to_owned(), "no bcrypt hash"),
        ] {
            let Err(error) = PasswordHash::parse(&text) else { panic!("{text} is taken") };
            assert!(error.contains(told), "{text}: {error}");
            assert!(!error.contains(&text), "{error}");
        }
    }
}
