//! Records as stores keep them: sealed and opened, JSON included.

use doorward::login::{Flow, FlowCookie};
use doorward::secret::SealKey;
use doorward::session::SessionCookie;
use doorward::store::record::{open_flow, open_session, seal_flow, seal_session};
use serde_json::json;

use crate::measure::{curve, step};
use crate::people::{self, NOW};

pub fn run() {
    let (key, plain) = (SealKey::new(&[7; 32]), vec![b'x'; 1024]);
    let sealed = key.seal(b"bench", &plain);
    let opened = || assert_eq!(key.open(b"bench", &sealed).unwrap().len(), plain.len());
    curve("seal: 1 KiB", vec![step("sealed", || key.seal(b"bench", &plain)), step("opened", opened)]);

    let flow: Flow =
        serde_json::from_value(json!({"return_to": "https://app.bench.test/dashboard?tab=2", "started_at": NOW.0, "failures": 0})).unwrap();
    let cookie = FlowCookie::new();
    let sealed = seal_flow(&flow, &cookie);
    assert_eq!(open_flow(&sealed, &cookie).as_ref(), Some(&flow));
    let title = format!("seal: a flow of {} bytes", sealed.len());
    curve(&title, vec![step("sealed", || seal_flow(&flow, &cookie)), step("opened", || open_flow(&sealed, &cookie).unwrap())]);

    let session = people::session();
    let cookie = SessionCookie::new();
    let sealed = seal_session(&session, &cookie);
    assert!(open_session(&sealed, &cookie).as_ref() == Some(&session));
    let title = format!("seal: a session of {} bytes", sealed.len());
    curve(&title, vec![step("sealed", || seal_session(&session, &cookie)), step("opened", || open_session(&sealed, &cookie).unwrap())]);
}
