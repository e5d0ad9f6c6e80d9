//! What has to happen in Redis as one whole. Every script names all its keys, and all of them lie in one slot.

/// A script and the name that Redis has for it.
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, hash: ::redis::Script::new(code).get_hash().to_owned() }
    }

    pub(super) const fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }
}

pub(super) struct Scripts {
    pub(super) put_session: Script,
    pub(super) touch_session: Script,
    pub(super) delete_session: Script,
    pub(super) put_index: Script,
    pub(super) admit_login: Script,
    pub(super) replace_session: Script,
    pub(super) lease: Script,
    pub(super) release_lease: Script,
    pub(super) count: Script,
    pub(super) replace_common: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            put_session: Script::new(PUT_SESSION),
            touch_session: Script::new(TOUCH_SESSION),
            delete_session: Script::new(DELETE_SESSION),
            put_index: Script::new(PUT_INDEX),
            admit_login: Script::new(ADMIT_LOGIN),
            replace_session: Script::new(REPLACE_SESSION),
            lease: Script::new(LEASE),
            release_lease: Script::new(RELEASE_LEASE),
            count: Script::new(COUNT),
            replace_common: Script::new(REPLACE_COMMON),
        }
    }
}

/// session; sealed, listing, indexes, last use, seconds to live → the index entries it had before.
const PUT_SESSION: &str = r"
local before = redis.call('HGET', KEYS[1], 'indexes')
redis.call('HSET', KEYS[1], 'sealed', ARGV[1], 'listing', ARGV[2], 'indexes', ARGV[3], 'used', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return before
";

/// session, touch; last use. A session that is gone stays gone, and its touch lives no longer than itself.
const TOUCH_SESSION: &str = r"
local left = redis.call('PTTL', KEYS[1])
if left == -2 then return end
local before = redis.call('GET', KEYS[2]) or redis.call('HGET', KEYS[1], 'used')
if before and tonumber(before) >= tonumber(ARGV[1]) then return end
if left > 0 then
    redis.call('SET', KEYS[2], ARGV[1], 'PX', left)
else
    redis.call('SET', KEYS[2], ARGV[1])
end
";

/// session; sealed before, sealed now → 0 replaced, 1 changed, 2 gone.
const REPLACE_SESSION: &str = r"
local known = redis.call('HGET', KEYS[1], 'sealed')
if not known then return 2 end
if known ~= ARGV[1] then return 1 end
redis.call('HSET', KEYS[1], 'sealed', ARGV[2])
return 0
";

/// lease; owner, milliseconds → whether it is the owner's now.
const LEASE: &str = r"
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

/// lease; owner.
const RELEASE_LEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
";

/// count; milliseconds → how many.
const COUNT: &str = r"
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count
";

/// common record; whether there was one, what it was, what it is to be, seconds to live → whether it was written.
const REPLACE_COMMON: &str = r"
local known = redis.call('GET', KEYS[1])
if ARGV[1] == '0' then
    if known then return 0 end
elseif known ~= ARGV[2] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return 1
";

/// session; whether replicas are waited for → whether it was there, its index entries. `WAIT` covers what its own connection wrote: a deletion
/// that is repeated because it was not confirmed has to write something, or it would be taken for confirmed.
const DELETE_SESSION: &str = r"
local there = redis.call('EXISTS', KEYS[1])
local indexes = redis.call('HGET', KEYS[1], 'indexes')
if there == 0 and ARGV[1] == '1' then redis.call('SET', KEYS[1], '', 'PX', 1) end
redis.call('DEL', KEYS[1])
return {there, indexes or ''}
";

/// index entry; now, end, session, slack. The entry lives as long as the longest of its sessions.
const PUT_INDEX: &str = r"
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
redis.call('EXPIRE', KEYS[1], math.max(1, tonumber(last) - tonumber(ARGV[1]) + tonumber(ARGV[4])))
";

/// all, of the address; now, end, flow, bound per address, bound in all, slack → 0 admitted, 1 too many of the address, 2 too many. A flow that
/// is counted already gets its new end and nothing else.
const ADMIT_LOGIN: &str = r"
local now, ends, flow = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
for _, key in ipairs(KEYS) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
end
if redis.call('ZSCORE', KEYS[1], flow) then
    redis.call('ZADD', KEYS[1], 'XX', ends, flow)
    redis.call('ZADD', KEYS[2], 'XX', ends, flow)
else
    if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return 1 end
    if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[5]) then return 2 end
    redis.call('ZADD', KEYS[1], ends, flow)
    redis.call('ZADD', KEYS[2], ends, flow)
end
for _, key in ipairs(KEYS) do
    local last = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
    if last then
        redis.call('EXPIRE', key, math.max(1, tonumber(last) - now + tonumber(ARGV[6])))
    end
end
return 0
";
