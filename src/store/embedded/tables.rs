//! What stands in the file, and every change to it. A change is one whole: it runs inside a transaction of the writer.

use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, Table, TableDefinition, TableError, WriteTransaction};

use crate::clock::UnixTime;
use crate::secret;
use crate::store::{Admission, Cursor, LoginBounds, LoginRecord, Part, RecordId, Replaced, SealedSession, StoredSession};

/// Raised when an older release could not read what this one writes.
pub(super) const FORMAT: u64 = 1;

type Id = &'static RecordId;
type Bytes = &'static [u8];

/// `"format"` → [`FORMAT`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Session → its end, its index entries one after the other, its listing, its record.
const SESSIONS: TableDefinition<'_, Id, (u64, Bytes, Bytes, Bytes)> = TableDefinition::new("sessions");
/// Session → its last use. A table of its own: a touch rewrites eight bytes.
const TOUCHES: TableDefinition<'_, Id, u64> = TableDefinition::new("touches");
/// (index entry, session).
const INDEX: TableDefinition<'_, (Id, Id), ()> = TableDefinition::new("index");
/// (kind, login record) → its end, its record.
const LOGINS: TableDefinition<'_, (u8, Id), (u64, Bytes)> = TableDefinition::new("logins");
/// Flow → until when it counts, for which address.
const ADMITTED: TableDefinition<'_, Id, (u64, Id)> = TableDefinition::new("admitted");
/// (address, flow).
const ADMITTED_OF: TableDefinition<'_, (Id, Id), ()> = TableDefinition::new("admitted_of");
/// Mark → its end. Unknown to releases before 0.2, which leave it alone.
const MARKS: TableDefinition<'_, Id, u64> = TableDefinition::new("marks");
/// What all gateways on one store have in common → its end, its record. Unknown to releases before 0.2, which leave it alone.
const COMMON_RECORDS: TableDefinition<'_, Id, (u64, Bytes)> = TableDefinition::new("common");
/// (kind, end, name) of everything above: what a sweep walks.
const EXPIRIES: TableDefinition<'_, (u8, u64, Id), ()> = TableDefinition::new("expiries");

// The kinds in `EXPIRIES`; those of login records are theirs in `LOGINS` too.
const ADMISSION: u8 = 0;
const FLOW: u8 = 1;
const ATTEMPT: u8 = 2;
const SESSION: u8 = 3;
const MARK: u8 = 4;
const COMMON: u8 = 5;

/// How many sessions one part of a walk looks at.
const PART: usize = 256;

const LOWEST: RecordId = [0; 32];
const HIGHEST: RecordId = [255; 32];

const fn code(kind: LoginRecord) -> u8 {
    match kind {
        LoginRecord::Flow => FLOW,
        LoginRecord::Attempt => ATTEMPT,
    }
}

/// The format that the file says it has; `None` for a file in which nothing was ever written.
pub(super) fn format(reading: &ReadTransaction) -> Result<Option<u64>, redb::Error> {
    match reading.open_table(META) {
        Ok(meta) => Ok(Some(meta.get("format")?.map_or(0, |format| format.value()))),
        Err(TableError::TableDoesNotExist(_)) if reading.list_tables()?.next().is_none() => Ok(None),
        Err(TableError::TableDoesNotExist(_)) => Ok(Some(0)),
        Err(error) => Err(error.into()),
    }
}

/// Makes every table and writes the format down.
pub(super) fn create(writing: &WriteTransaction) -> Result<(), redb::Error> {
    writing.open_table(META)?.insert("format", FORMAT)?;
    Tables::open(writing).map(drop)
}

pub(super) fn session(reading: &ReadTransaction, id: &RecordId, now: UnixTime) -> Result<Option<StoredSession>, redb::Error> {
    let sessions = reading.open_table(SESSIONS)?;
    let Some(row) = sessions.get(id)? else { return Ok(None) };
    let (until, _, _, sealed) = row.value();
    if until <= now.0 {
        return Ok(None);
    }
    let last_used = reading.open_table(TOUCHES)?.get(id)?.map_or(0, |last_used| last_used.value());
    Ok(Some(StoredSession { sealed: sealed.to_vec(), last_used: UnixTime(last_used) }))
}

pub(super) fn listing(reading: &ReadTransaction, id: &RecordId, now: UnixTime) -> Result<Option<Vec<u8>>, redb::Error> {
    let row = reading.open_table(SESSIONS)?.get(id)?;
    Ok(row.and_then(|row| {
        let (until, _, listing, _) = row.value();
        (until > now.0).then(|| listing.to_vec())
    }))
}

pub(super) fn sessions_under(reading: &ReadTransaction, index: &RecordId) -> Result<Vec<RecordId>, redb::Error> {
    let entries = reading.open_table(INDEX)?;
    entries.range((index, &LOWEST)..=(index, &HIGHEST))?.map(|entry| Ok(*entry?.0.value().1)).collect()
}

/// The cursor is the last name that was looked at.
pub(super) fn all_sessions(reading: &ReadTransaction, from: Option<&Cursor>, now: UnixTime) -> Result<Part, redb::Error> {
    let after = from.and_then(|cursor| secret::decode(&cursor.0)).and_then(|bytes| RecordId::try_from(bytes).ok());
    let sessions = reading.open_table(SESSIONS)?;
    let (mut found, mut looked, mut last) = (Vec::new(), 0, None);
    for row in sessions.range::<&RecordId>(after.as_ref().unwrap_or(&LOWEST)..)? {
        let (id, row) = row?;
        let id = *id.value();
        if Some(id) == after {
            continue;
        }
        if looked == PART {
            return Ok((found, last.map(|last: RecordId| Cursor(secret::encode(&last)))));
        }
        looked += 1;
        last = Some(id);
        if row.value().0 > now.0 {
            found.push(id);
        }
    }
    Ok((found, None))
}

pub(super) fn remembered(reading: &ReadTransaction, mark: &RecordId, now: UnixTime) -> Result<bool, redb::Error> {
    match reading.open_table(MARKS) {
        Ok(marks) => Ok(marks.get(mark)?.is_some_and(|until| until.value() > now.0)),
        // A file that the release before this one made.
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn common(reading: &ReadTransaction, name: &RecordId, now: UnixTime) -> Result<Option<Vec<u8>>, redb::Error> {
    match reading.open_table(COMMON_RECORDS) {
        Ok(common) => Ok(common.get(name)?.and_then(|row| {
            let (until, sealed) = row.value();
            (until > now.0).then(|| sealed.to_vec())
        })),
        // A file that the release before this one made.
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn login(reading: &ReadTransaction, kind: LoginRecord, id: &RecordId, now: UnixTime) -> Result<Option<Vec<u8>>, redb::Error> {
    let row = reading.open_table(LOGINS)?.get((code(kind), id))?;
    Ok(row.and_then(|row| {
        let (until, sealed) = row.value();
        (until > now.0).then(|| sealed.to_vec())
    }))
}

/// Every table, open for changes.
pub(super) struct Tables<'txn> {
    sessions: Table<'txn, Id, (u64, Bytes, Bytes, Bytes)>,
    touches: Table<'txn, Id, u64>,
    index: Table<'txn, (Id, Id), ()>,
    logins: Table<'txn, (u8, Id), (u64, Bytes)>,
    admitted: Table<'txn, Id, (u64, Id)>,
    admitted_of: Table<'txn, (Id, Id), ()>,
    marks: Table<'txn, Id, u64>,
    common: Table<'txn, Id, (u64, Bytes)>,
    expiries: Table<'txn, (u8, u64, Id), ()>,
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(writing: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            sessions: writing.open_table(SESSIONS)?,
            touches: writing.open_table(TOUCHES)?,
            index: writing.open_table(INDEX)?,
            logins: writing.open_table(LOGINS)?,
            admitted: writing.open_table(ADMITTED)?,
            admitted_of: writing.open_table(ADMITTED_OF)?,
            marks: writing.open_table(MARKS)?,
            common: writing.open_table(COMMON_RECORDS)?,
            expiries: writing.open_table(EXPIRIES)?,
        })
    }

    pub(super) fn put_session(&mut self, id: &RecordId, session: &SealedSession) -> Result<(), redb::Error> {
        self.delete_session(id)?;
        for index in &session.indexes {
            self.index.insert((index, id), ())?;
        }
        let until = session.expires_at.0;
        let indexes = session.indexes.as_flattened();
        self.sessions.insert(id, (until, indexes, session.listing.as_slice(), session.sealed.as_slice()))?;
        self.touches.insert(id, session.last_used.0)?;
        self.expiries.insert((SESSION, until, id), ())?;
        Ok(())
    }

    /// Until when it would have lived, if it was there.
    pub(super) fn delete_session(&mut self, id: &RecordId) -> Result<Option<UnixTime>, redb::Error> {
        let Some(row) = self.sessions.remove(id)? else { return Ok(None) };
        let (until, indexes, _, _) = row.value();
        for index in indexes.as_chunks().0 {
            self.index.remove((index, id))?;
        }
        self.touches.remove(id)?;
        self.expiries.remove((SESSION, until, id))?;
        Ok(Some(UnixTime(until)))
    }

    pub(super) fn touch_session(&mut self, id: &RecordId, last_used: UnixTime) -> Result<(), redb::Error> {
        let before = self.touches.get(id)?.map(|before| before.value());
        if before.is_some_and(|before| before < last_used.0) {
            self.touches.insert(id, last_used.0)?;
        }
        Ok(())
    }

    pub(super) fn replace_session(&mut self, id: &RecordId, before: &[u8], sealed: &[u8], now: UnixTime) -> Result<Replaced, redb::Error> {
        let (until, indexes, listing) = {
            let Some(row) = self.sessions.get(id)? else { return Ok(Replaced::Gone) };
            let (until, indexes, listing, known) = row.value();
            if until <= now.0 {
                return Ok(Replaced::Gone);
            }
            if known != before {
                return Ok(Replaced::Changed);
            }
            (until, indexes.to_vec(), listing.to_vec())
        };
        self.sessions.insert(id, (until, indexes.as_slice(), listing.as_slice(), sealed))?;
        Ok(Replaced::Replaced)
    }

    /// Whether it was not noted yet.
    pub(super) fn remember(&mut self, mark: &RecordId, until: UnixTime, now: UnixTime) -> Result<bool, redb::Error> {
        let before = self.marks.get(mark)?.map(|before| before.value());
        match before {
            Some(before) if before > now.0 => return Ok(false),
            Some(before) => drop(self.expiries.remove((MARK, before, mark))?),
            None => {}
        }
        self.marks.insert(mark, until.0)?;
        self.expiries.insert((MARK, until.0, mark), ())?;
        Ok(true)
    }

    /// Whether what was there is what was read.
    pub(super) fn replace_common(
        &mut self,
        name: &RecordId,
        before: Option<&[u8]>,
        sealed: &[u8],
        until: UnixTime,
        now: UnixTime,
    ) -> Result<bool, redb::Error> {
        let ended = {
            let known = self.common.get(name)?;
            let known = known.as_ref().map(|row| row.value());
            let there = known.filter(|(until, _)| *until > now.0).map(|(_, sealed)| sealed);
            if there != before {
                return Ok(false);
            }
            known.map(|(until, _)| until)
        };
        if let Some(ended) = ended {
            self.expiries.remove((COMMON, ended, name))?;
        }
        self.common.insert(name, (until.0, sealed))?;
        self.expiries.insert((COMMON, until.0, name), ())?;
        Ok(true)
    }

    pub(super) fn put_login(&mut self, kind: LoginRecord, id: &RecordId, sealed: &[u8], until: UnixTime) -> Result<(), redb::Error> {
        let kind = code(kind);
        let before = self.logins.insert((kind, id), (until.0, sealed))?.map(|before| before.value().0);
        if let Some(before) = before {
            self.expiries.remove((kind, before, id))?;
        }
        self.expiries.insert((kind, until.0, id), ())?;
        Ok(())
    }

    pub(super) fn take_login(&mut self, kind: LoginRecord, id: &RecordId) -> Result<Option<(UnixTime, Vec<u8>)>, redb::Error> {
        let kind = code(kind);
        let Some(row) = self.logins.remove((kind, id))? else { return Ok(None) };
        let (until, sealed) = row.value();
        self.expiries.remove((kind, until, id))?;
        Ok(Some((UnixTime(until), sealed.to_vec())))
    }

    pub(super) fn admit(
        &mut self,
        flow: &RecordId,
        address: &RecordId,
        until: UnixTime,
        bounds: LoginBounds,
        now: UnixTime,
    ) -> Result<Admission, redb::Error> {
        // All of them, so that the counts are true; there are never more than the bounds let in.
        self.sweep_kind(ADMISSION, now, usize::MAX)?;
        let before = self.admitted.get(flow)?.map(|row| (row.value().0, *row.value().1));
        let address = match &before {
            Some((before, address)) => {
                self.expiries.remove((ADMISSION, *before, flow))?;
                address
            }
            None => {
                let of_address = self.admitted_of.range((address, &LOWEST)..=(address, &HIGHEST))?;
                // There are never more than the bound, so this counts no further than it has to.
                let full = usize::try_from(bounds.per_address).unwrap_or(usize::MAX);
                if of_address.take(full).count() == full {
                    return Ok(Admission::TooManyOfAddress);
                }
                if self.admitted.len()? >= bounds.total {
                    return Ok(Admission::TooMany);
                }
                address
            }
        };
        self.admitted.insert(flow, (until.0, address))?;
        self.admitted_of.insert((address, flow), ())?;
        self.expiries.insert((ADMISSION, until.0, flow), ())?;
        Ok(Admission::Admitted)
    }

    pub(super) fn release(&mut self, flow: &RecordId) -> Result<(), redb::Error> {
        if let Some(row) = self.admitted.remove(flow)? {
            let (until, address) = row.value();
            self.admitted_of.remove((address, flow))?;
            self.expiries.remove((ADMISSION, until, flow))?;
        }
        Ok(())
    }

    /// Deletes up to `most` records that are over; how many there were.
    pub(super) fn sweep(&mut self, now: UnixTime, most: usize) -> Result<usize, redb::Error> {
        let mut swept = 0;
        for kind in [ADMISSION, FLOW, ATTEMPT, SESSION, MARK, COMMON] {
            swept += self.sweep_kind(kind, now, most - swept)?;
        }
        Ok(swept)
    }

    fn sweep_kind(&mut self, kind: u8, now: UnixTime, most: usize) -> Result<usize, redb::Error> {
        let mut over = Vec::new();
        for entry in self.expiries.range((kind, 0, &LOWEST)..=(kind, now.0, &HIGHEST))?.take(most) {
            let key = entry?.0;
            let (_, until, id) = key.value();
            over.push((until, *id));
        }
        for (until, id) in &over {
            // Each entry goes in any case: a walk that left one behind would never end.
            self.expiries.remove((kind, *until, id))?;
            match kind {
                ADMISSION => self.release(id)?,
                FLOW => drop(self.take_login(LoginRecord::Flow, id)?),
                ATTEMPT => drop(self.take_login(LoginRecord::Attempt, id)?),
                MARK => drop(self.marks.remove(id)?),
                COMMON => drop(self.common.remove(id)?),
                _ => drop(self.delete_session(id)?),
            }
        }
        Ok(over.len())
    }
}
