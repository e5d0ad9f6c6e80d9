//! Several Redis that belong together: a primary with replicas and sentinels, or a cluster. Their elections are as short as they can be.

use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use super::certs::CertificateAuthority;
use super::redis::{Redis, RedisOptions};
use super::wait::{PATIENCE, free_port};

/// What the sentinels call the primary.
pub const MASTER_NAME: &str = "doorward-data";

/// An ACL user: its name, password and rules.
pub type User<'a> = (&'a str, &'a str, &'a str);

/// Many processes on few cores: one such group at a time.
pub async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// How all of a group are to be.
#[derive(Clone, Copy, Default)]
pub struct GroupOptions<'a> {
    /// TLS only, with certificates of this authority.
    pub authority: Option<&'a CertificateAuthority>,
    /// The user of the data nodes; the default user is off.
    pub user: Option<User<'a>>,
    /// The user of the sentinels; the default user is off.
    pub sentinel_user: Option<User<'a>>,
    /// Who is missed is replaced as soon as can be: for tests about that. Else only after half a minute, however slow the machine is.
    pub elections: bool,
}

impl GroupOptions<'_> {
    fn node(&self, user: Option<User<'_>>) -> RedisOptions {
        let mut options = Redis::options().one_of_several(self.authority).config("repl-diskless-sync-delay 0").config("repl-timeout 2");
        options = options.config("repl-ping-replica-period 1");
        if let Some(authority) = self.authority {
            options = options.tls(authority);
        }
        match user {
            Some((name, password, rules)) => options.user_with(name, password, rules),
            None => options,
        }
    }
}

/// A primary, its replicas, and three sentinels.
pub struct SentinelGroup {
    /// Those who have the data; the first is the primary at the beginning.
    pub nodes: Vec<Redis>,
    /// Those who watch.
    pub sentinels: Vec<Redis>,
}

impl SentinelGroup {
    /// One primary with this many replicas, all in step.
    pub async fn start(replicas: usize, options: GroupOptions<'_>) -> Self {
        let primary = options.node(options.user).start().await;
        let of = format!("replicaof 127.0.0.1 {}", primary.port());
        let mut nodes = vec![primary];
        for _ in 0..replicas {
            nodes.push(options.node(options.user).config(&of).start().await);
        }
        until("the replicas are in step", async || {
            nodes[0].cli(&["ROLE"]).await.lines().filter(|line| *line == "127.0.0.1").count() == replicas
        })
        .await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Self::sentinel(options, nodes[0].port()).start().await);
        }
        let group = Self { nodes, sentinels };
        for sentinel in &group.sentinels {
            until("the sentinels know each other and the replicas", async || {
                let told = sentinel.cli(&["SENTINEL", "MASTER", MASTER_NAME]).await;
                field(&told, "num-other-sentinels") == "2" && field(&told, "num-slaves") == replicas.to_string()
            })
            .await;
        }
        group
    }

    fn sentinel(options: GroupOptions<'_>, primary: u16) -> RedisOptions {
        let (user, password) = Redis::watcher();
        let mut sentinel = Redis::options().sentinel();
        if let Some(authority) = options.authority {
            sentinel = sentinel.tls(authority).config("tls-replication yes");
            sentinel = sentinel.config(&format!("tls-ca-cert-file {}", authority.file().display()));
        }
        if let Some((name, password, rules)) = options.sentinel_user {
            sentinel = sentinel.user_with(name, password, rules);
        }
        [
            format!("sentinel monitor {MASTER_NAME} 127.0.0.1 {primary} 2"),
            format!("sentinel auth-user {MASTER_NAME} {user}"),
            format!("sentinel auth-pass {MASTER_NAME} {password}"),
            format!("sentinel sentinel-user {user}"),
            format!("sentinel sentinel-pass {password}"),
            format!("sentinel down-after-milliseconds {MASTER_NAME} {}", if options.elections { 1000 } else { 30_000 }),
            format!("sentinel failover-timeout {MASTER_NAME} 3000"),
            format!("sentinel parallel-syncs {MASTER_NAME} 2"),
        ]
        .iter()
        .fold(sentinel, |sentinel, line| sentinel.config(line))
    }

    /// For a config: `store.sentinels` and `store.master_name`.
    #[must_use]
    pub fn config(&self) -> String {
        format!("sentinels = {:?}\nmaster_name = \"{MASTER_NAME}\"", urls(&self.sentinels))
    }

    /// Waits for a primary that is not this one, and gives its place among the nodes.
    pub async fn next_primary(&self, former: usize) -> usize {
        let end = Instant::now() + PATIENCE;
        loop {
            for (number, node) in self.nodes.iter().enumerate().filter(|(number, node)| *number != former && node.runs()) {
                if node.try_cli(&["ROLE"]).await.is_some_and(|role| role.starts_with("master")) {
                    return number;
                }
            }
            assert!(Instant::now() < end, "nobody became the primary");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all sentinels say that this node is the primary.
    pub async fn agree(&self, number: usize) {
        let port = self.nodes[number].port().to_string();
        for sentinel in &self.sentinels {
            until("the sentinels agree", async || {
                sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME]).await.lines().last() == Some(&port)
            })
            .await;
        }
    }
}

/// A cluster.
pub struct RedisCluster {
    /// The primaries of the beginning, then all replicas: of the first, of the second, and so on.
    pub nodes: Vec<Redis>,
    primaries: usize,
}

impl RedisCluster {
    /// This many primaries with this many replicas each, all slots served, all in step.
    pub async fn start(primaries: usize, replicas: usize, options: GroupOptions<'_>) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..primaries * (replicas + 1) {
            let mut node = options.node(options.user);
            if options.authority.is_some() {
                node = node.config("tls-cluster yes");
            }
            let bus = format!("cluster-port {}", free_port());
            let missed = if options.elections { "cluster-node-timeout 1500" } else { "cluster-node-timeout 30000" };
            let lines = ["cluster-enabled yes", missed, "cluster-replica-validity-factor 0", &bus];
            nodes.push(lines.iter().fold(node, |node, line| node.config(line)).start().await);
        }
        let cluster = Self { nodes, primaries };
        cluster.join(replicas).await;
        cluster
    }

    async fn join(&self, replicas: usize) {
        let slots = 16384 / self.primaries;
        let first = &self.nodes[0];
        for (number, node) in self.nodes.iter().enumerate() {
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
            if number < self.primaries {
                let last = if number + 1 == self.primaries { 16383 } else { (number + 1) * slots - 1 };
                let told = node.cli(&["CLUSTER", "ADDSLOTSRANGE", &(number * slots).to_string(), &last.to_string()]).await;
                assert_eq!(told, "OK");
            }
            if number > 0 {
                let bus = first.cli(&["CONFIG", "GET", "cluster-port"]).await;
                let bus = bus.lines().last().expect("the port of the cluster bus");
                assert_eq!(node.cli(&["CLUSTER", "MEET", "127.0.0.1", &first.port().to_string(), bus]).await, "OK");
            }
        }
        for node in &self.nodes {
            let all = format!("cluster_known_nodes:{}\r\n", self.nodes.len());
            until("all nodes know each other", async || node.cli(&["CLUSTER", "INFO"]).await.contains(&all)).await;
        }
        for (number, node) in self.nodes.iter().enumerate().skip(self.primaries) {
            let primary = self.id((number - self.primaries) / replicas).await;
            until("a replica knows its primary", async || node.cli(&["CLUSTER", "REPLICATE", &primary]).await == "OK").await;
        }
        for (number, node) in self.nodes.iter().enumerate() {
            until("a node is in its place", async || {
                let well = node.cli(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok");
                let role = node.cli(&["ROLE"]).await;
                let in_step = role.lines().filter(|line| *line == "127.0.0.1").count() == replicas;
                // Who all the replicas are, everybody has to know: a failover is an election.
                let known = node.cli(&["CLUSTER", "NODES"]).await.matches("slave ").count() == self.primaries * replicas;
                well && known && if number < self.primaries { in_step } else { role.contains("connected") }
            })
            .await;
        }
    }

    /// For a config: `store.cluster`.
    #[must_use]
    pub fn config(&self) -> String {
        format!("cluster = {:?}", urls(&self.nodes[..self.primaries]))
    }

    /// The node's name in the cluster.
    pub async fn id(&self, number: usize) -> String {
        self.nodes[number].cli(&["CLUSTER", "MYID"]).await
    }

    /// Which of the first primaries has this slot at the beginning.
    #[must_use]
    pub fn first_owner(&self, slot: usize) -> usize {
        (slot / (16384 / self.primaries)).min(self.primaries - 1)
    }

    /// Waits until a replica of the first primary `former` has its place.
    pub async fn next_primary(&self, former: usize) -> usize {
        let replicas = self.nodes.len() / self.primaries - 1;
        let end = Instant::now() + PATIENCE;
        loop {
            for number in (0..replicas).map(|replica| self.primaries + former * replicas + replica) {
                if self.nodes[number].try_cli(&["ROLE"]).await.is_some_and(|role| role.starts_with("master")) {
                    return number;
                }
            }
            assert!(Instant::now() < end, "nobody took the place of primary {former}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all other nodes that run know that this one is a primary and serve everything.
    pub async fn agree(&self, number: usize, but: usize) {
        let id = self.id(number).await;
        for (_, node) in self.nodes.iter().enumerate().filter(|(number, node)| *number != but && node.runs()) {
            until("the nodes agree", async || {
                let all = node.cli(&["CLUSTER", "NODES"]).await;
                let known = all.lines().any(|line| line.starts_with(&id) && line.contains("master"));
                known && node.cli(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok")
            })
            .await;
        }
    }

    /// Begins to move a slot: keys that are gone at `from` are asked for at `to`.
    pub async fn begin_move(&self, slot: usize, from: usize, to: usize) {
        let (slot, source, destination) = (slot.to_string(), self.id(from).await, self.id(to).await);
        assert_eq!(self.nodes[to].cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]).await, "OK");
        assert_eq!(self.nodes[from].cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &destination]).await, "OK");
    }

    /// Moves the keys of a slot one by one, with a pause between them; how many there were.
    pub async fn move_keys(&self, slot: usize, from: usize, to: usize, pause: Duration) -> usize {
        let (user, password) = Redis::watcher();
        let (slot, port, mut moved) = (slot.to_string(), self.nodes[to].port().to_string(), 0);
        loop {
            let keys = self.nodes[from].cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
            let mut keys = keys.lines().peekable();
            if keys.peek().is_none() {
                return moved;
            }
            for key in keys {
                let told = self.nodes[from].cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "2000", "AUTH2", user, password]).await;
                assert!(matches!(told.as_str(), "OK" | "NOKEY"), "{told}");
                moved += usize::from(told == "OK");
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// The slot is the other's now: it is told first, then everybody.
    pub async fn end_move(&self, slot: usize, to: usize) {
        let (slot, destination) = (slot.to_string(), self.id(to).await);
        for number in std::iter::once(to).chain((0..self.primaries).filter(|number| *number != to)) {
            assert_eq!(self.nodes[number].cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &destination]).await, "OK");
        }
    }
}

fn urls(nodes: &[Redis]) -> Vec<String> {
    nodes.iter().map(Redis::url).collect()
}

/// The value after its name, in an answer of names and values by turns.
fn field<'a>(told: &'a str, name: &str) -> &'a str {
    let mut lines = told.lines();
    lines.find(|line| *line == name).and_then(|_| lines.next()).unwrap_or_default()
}

async fn until(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !probe().await {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
