//! What is counted of upstreams' addresses. Labels are the entries of the config: a name is one of them, however many addresses it has.

use std::sync::Mutex;
use std::sync::PoisonError;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Entry = [(&'static str, String); 1];

/// All of them.
#[derive(Default)]
pub(super) struct UpstreamCounts {
    addresses: Family<Entry, Gauge>,
    left_out: Family<Entry, Gauge>,
    ejections: Family<Entry, Counter>,
    lookups_failed: Family<Entry, Counter>,
}

impl UpstreamCounts {
    pub(super) fn register(&self, registry: &mut Registry) {
        let what = "Addresses that requests to an upstream are spread over, where there may be several";
        registry.register("upstream_addresses", what, self.addresses.clone());
        let what = "Those of them that are left out now: they failed, or do not pass their health check";
        registry.register("upstream_addresses_left_out", what, self.left_out.clone());
        registry.register("upstream_ejections", "How often an address was left out because requests failed there", self.ejections.clone());
        let what = "Look-ups of an upstream's name that failed; the addresses before go on";
        registry.register("upstream_lookups_failed", what, self.lookups_failed.clone());
    }

    pub(super) fn address(&self, entry: &str) -> AddressCounts {
        let entry = [("upstream", entry.to_owned())];
        let addresses = self.addresses.get_or_create_owned(&entry);
        addresses.inc();
        AddressCounts {
            addresses,
            left_out: self.left_out.get_or_create_owned(&entry),
            ejections: self.ejections.get_or_create_owned(&entry),
            is_out: Mutex::new(false),
        }
    }

    pub(super) fn lookup_failed(&self, name: &str) {
        self.lookups_failed.get_or_create(&[("name", name.to_owned())]).inc();
    }
}

/// One address, for as long as this lives.
#[derive(Debug)]
pub struct AddressCounts {
    addresses: Gauge,
    left_out: Gauge,
    ejections: Counter,
    is_out: Mutex<bool>,
}

impl AddressCounts {
    /// It is left out once more.
    pub fn ejected(&self) {
        self.ejections.inc();
    }

    /// Whether it is left out because it failed, or because it does not pass its check.
    pub fn left_out(&self, failed: bool, sick: bool) {
        let mut is_out = self.is_out.lock().unwrap_or_else(PoisonError::into_inner);
        let out = failed || sick;
        if *is_out != out {
            *is_out = out;
            if out {
                self.left_out.inc()
            } else {
                self.left_out.dec()
            };
        }
    }
}

impl Drop for AddressCounts {
    fn drop(&mut self) {
        self.addresses.dec();
        self.left_out(false, false);
    }
}
