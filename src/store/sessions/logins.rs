//! Logins under way.

use std::net::IpAddr;

use super::Sessions;
use crate::fault::Outage;
use crate::login::{ATTEMPT_LIFETIME, FLOW_LIFETIME, Flow, FlowCookie, FlowHandle, KeptForm, PendingLogin, State};
use crate::store::record;
use crate::store::{Admission, LoginBounds, LoginRecord};

impl<P> Sessions<P> {
    /// Writes a flow over what is there of it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn put_flow(&self, cookie: &FlowCookie, flow: &Flow) -> Result<(), Outage> {
        let (id, sealed, until) = (cookie.handle.record_id(), record::seal_flow(flow, cookie), flow.started_at.plus(FLOW_LIFETIME));
        self.ask(async move |store| store.put_login(LoginRecord::Flow, id, sealed, until).await).await
    }

    /// The flow of this cookie; `None` when there is none, when it is over, or when the cookie does not open it.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn flow(&self, cookie: &FlowCookie) -> Result<Option<Flow>, Outage> {
        let id = cookie.handle.record_id();
        let sealed = self.ask(async move |store| store.login(LoginRecord::Flow, id).await).await?;
        let flow = sealed.and_then(|sealed| record::open_flow(&sealed, cookie));
        Ok(flow.filter(|flow| self.clock.now() < flow.started_at.plus(FLOW_LIFETIME)))
    }

    /// Takes the form out of a flow and leaves the rest: of many who try at once, one gets it. What this cookie does not open stays as it is.
    ///
    /// # Errors
    /// When the store does not answer; then the form may be gone.
    pub async fn take_kept(&self, cookie: &FlowCookie) -> Result<Option<KeptForm>, Outage> {
        let cookie = cookie.clone();
        self.ask(async move |store| {
            let id = cookie.handle.record_id();
            let open = |sealed: Option<Vec<u8>>| sealed.and_then(|sealed| record::open_flow(&sealed, &cookie));
            if open(store.login(LoginRecord::Flow, id).await?).is_none() {
                return Ok(None);
            }
            let Some(flow) = open(store.take_login(LoginRecord::Flow, id).await?) else { return Ok(None) };
            let left = Flow { kept: None, ..flow.clone() };
            store.put_login(LoginRecord::Flow, id, record::seal_flow(&left, &cookie), left.started_at.plus(FLOW_LIFETIME)).await?;
            Ok(flow.kept)
        })
        .await
    }

    /// Writes an attempt in place of the flow's former one: a flow has one at a time, so bounded flows are bounded records.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn put_attempt(&self, cookie: &FlowCookie, state: &State, attempt: &PendingLogin) -> Result<(), Outage> {
        let until = attempt.started_at.plus(ATTEMPT_LIFETIME);
        let (id, sealed) = (state.flow.record_id(), record::seal_attempt(attempt, state, cookie));
        self.ask(async move |store| store.put_login(LoginRecord::Attempt, id, sealed, until).await).await
    }

    /// Reads an attempt and leaves it; `None` when it is spent, over, or belongs to another browser.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn attempt(&self, cookie: &FlowCookie, state: &State) -> Result<Option<PendingLogin>, Outage> {
        let id = state.flow.record_id();
        let sealed = self.ask(async move |store| store.login(LoginRecord::Attempt, id).await).await?;
        Ok(self.running(sealed.and_then(|sealed| record::open_attempt(&sealed, state, cookie))))
    }

    /// Takes an attempt: of many who try at once, one gets it. What this cookie does not open is `None` and stays where it is, so that a foreign
    /// browser cannot burn another's login.
    ///
    /// # Errors
    /// When the store does not answer; then the attempt may be spent.
    pub async fn take_attempt(&self, cookie: &FlowCookie, state: &State) -> Result<Option<PendingLogin>, Outage> {
        let (cookie, state) = (cookie.clone(), *state);
        let taken = self
            .ask(async move |store| {
                let id = state.flow.record_id();
                let open = |sealed: Option<Vec<u8>>| sealed.and_then(|sealed| record::open_attempt(&sealed, &state, &cookie));
                if open(store.login(LoginRecord::Attempt, id).await?).is_none() {
                    return Ok(None);
                }
                Ok(open(store.take_login(LoginRecord::Attempt, id).await?))
            })
            .await?;
        Ok(self.running(taken))
    }

    /// Counts a flow in for as long as its record lives, unless too many are under way.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn admit(&self, flow: FlowHandle, address: IpAddr, bounds: LoginBounds) -> Result<Admission, Outage> {
        let (id, address, until) = (flow.record_id(), record::address_tag(&self.ring, address), self.clock.now().plus(FLOW_LIFETIME));
        self.ask(async move |store| store.admit_login(id, address, until, bounds).await).await
    }

    /// Counts a flow out: it led to a session.
    ///
    /// # Errors
    /// When the store does not answer; the count ends with the flow's time then.
    pub async fn release(&self, flow: FlowHandle, address: IpAddr) -> Result<(), Outage> {
        let (id, address) = (flow.record_id(), record::address_tag(&self.ring, address));
        self.ask(async move |store| store.release_login(id, address).await).await
    }

    /// Gives up a flow that its browser holds no longer: its records go and it counts no more. What this cookie does not open stays.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn abandon(&self, cookie: &FlowCookie, address: IpAddr) -> Result<(), Outage> {
        let (id, cookie) = (cookie.handle.record_id(), cookie.clone());
        let address = record::address_tag(&self.ring, address);
        self.ask(async move |store| {
            let sealed = store.login(LoginRecord::Flow, id).await?;
            if sealed.is_some_and(|sealed| record::open_flow(&sealed, &cookie).is_some()) {
                store.take_login(LoginRecord::Attempt, id).await?;
                store.take_login(LoginRecord::Flow, id).await?;
                store.release_login(id, address).await?;
            }
            Ok(())
        })
        .await
    }

    fn running(&self, attempt: Option<PendingLogin>) -> Option<PendingLogin> {
        attempt.filter(|attempt| !attempt.is_over(self.clock.now()))
    }
}
