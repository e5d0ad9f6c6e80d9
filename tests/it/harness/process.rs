//! Child processes: started with captured output, waited for by a line, signalled by number, killed and reaped when dropped.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::wait::within;

/// A program about to be started.
pub struct Launch {
    command: Command,
    program: OsString,
    stdin: bool,
    file: Option<Stdio>,
    goodbye: Option<(&'static str, Duration)>,
}

impl Launch {
    /// A program by name (found through `PATH` and the folders of system daemons) or path.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self { command: Command::new(find(&program)), program, stdin: false, file: None, goodbye: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it with no variable of ours but `PATH` and what [`Launch::env`] sets after this.
    #[must_use]
    pub fn clean_env(mut self) -> Self {
        self.command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            self.command.env("PATH", path);
        }
        self
    }

    /// The folder it runs in.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.command.current_dir(dir.into());
        self
    }

    /// Gives it a pipe as stdin; without this it has none.
    #[must_use]
    pub fn with_stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    /// Gives it this open file or socket as stdin.
    #[must_use]
    pub fn stdin_from(mut self, file: impl Into<Stdio>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// How it is asked to end when the value is dropped, and how long it may take before it is killed: for programs with children of
    /// their own, which would outlive a kill.
    #[must_use]
    pub fn goodbye(mut self, signal: &'static str, patience: Duration) -> Self {
        self.goodbye = Some((signal, patience));
        self
    }

    /// Starts it. Panics when there is no such program.
    #[must_use]
    pub fn start(mut self) -> Process {
        let name = self.program.to_string_lossy().into_owned();
        let stdin = self.file.take().unwrap_or_else(|| if self.stdin { Stdio::piped() } else { Stdio::null() });
        let started = self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => panic!("{name} is missing: run tests/run, it installs what the tests need"),
            _ => panic!("{name} does not start: {error}"),
        });
        let output = Arc::new(Output::default());
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, Source::Stdout, Arc::clone(&output));
        }
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, Source::Stderr, Arc::clone(&output));
        }
        let stdin = child.stdin.take();
        Process { name, pid: child.id(), child: Mutex::new(child), stdin: Mutex::new(stdin), output, goodbye: self.goodbye }
    }
}

/// A running (or ended) child.
pub struct Process {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    stdin: Mutex<Option<ChildStdin>>,
    output: Arc<Output>,
    goodbye: Option<(&'static str, Duration)>,
}

/// A line of a child's output.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it was written.
    pub source: Source,
    /// Without its end.
    pub text: String,
}

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.output.lines.lock().unwrap().clone()
    }

    /// All output so far as one text.
    #[must_use]
    pub fn output(&self) -> String {
        self.lines().iter().map(|line| format!("{}\n", line.text)).collect()
    }

    /// Standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.lines().iter().filter(|line| line.source == Source::Stdout).map(|line| format!("{}\n", line.text)).collect()
    }

    /// Waits for the first line (of those so far, too) that `wanted` picks. Panics with the output when the program ends before or
    /// the time is over.
    pub async fn wait_for_line(&self, wanted: impl Fn(&str) -> bool, deadline: Duration) -> String {
        self.try_wait_for_line(wanted, deadline)
            .await
            .unwrap_or_else(|| panic!("{} ended or was silent for {deadline:?}; its output:\n{}", self.name, self.output()))
    }

    /// Waits for the first line that `wanted` picks; `None` when the program ends before or the time is over.
    pub async fn try_wait_for_line(&self, wanted: impl Fn(&str) -> bool, deadline: Duration) -> Option<String> {
        let mut left = None;
        within(deadline, || {
            // Asked in this order: what a program that has ended wrote is there before its end is believed.
            let ended = self.has_said_all(&mut left);
            let found = self.lines().into_iter().map(|line| line.text).find(|text| wanted(text));
            (found.is_some() || ended).then_some(found)
        })
        .await
        .flatten()
    }

    /// Whether it has ended and its output is complete (or a child of its own holds the pipe open for a second longer).
    fn has_said_all(&self, left: &mut Option<Instant>) -> bool {
        if self.status().is_none() {
            return false;
        }
        let since = left.get_or_insert_with(Instant::now);
        self.output.readers.load(Ordering::SeqCst) == 0 || since.elapsed() > Duration::from_secs(1)
    }

    /// Sends a signal by name (`"TERM"`, `"KILL"`, `"HUP"`, `"STOP"`, `"CONT"`). Nothing happens when the program has ended.
    pub fn signal(&self, name: &str) {
        let mut child = self.child();
        // Under the lock and not yet reaped: the number is still this child's.
        if matches!(child.try_wait(), Ok(None)) {
            let sent = Command::new("kill").args(["-s", name, &self.pid.to_string()]).status();
            assert!(sent.is_ok_and(|status| status.success()), "kill -s {name} {} failed", self.pid);
        }
    }

    /// How it ended, when it has.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("one's own child can be waited for")
    }

    /// Waits for its end and the rest of its output; panics with the output when it goes on for longer.
    pub async fn wait(&self, deadline: Duration) -> ExitStatus {
        let mut left = None;
        within(deadline, || self.has_said_all(&mut left).then(|| self.status()).flatten())
            .await
            .unwrap_or_else(|| panic!("{} still runs after {deadline:?}; its output:\n{}", self.name, self.output()))
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// The child, also while a panic unwinds: it has to be killed all the same.
    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to its stdin. `false`: it takes nothing more.
    pub fn write(&self, text: &str) -> bool {
        let mut stdin = self.stdin.lock().unwrap();
        stdin.as_mut().is_some_and(|stdin| stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).is_ok())
    }

    /// Closes its stdin.
    pub fn close_stdin(&self) {
        self.stdin.lock().unwrap().take();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some((signal, patience)) = self.goodbye.filter(|_| self.status().is_none()) {
            let _ = Command::new("kill").args(["-s", signal, &self.pid.to_string()]).status();
            let end = Instant::now() + patience;
            while self.status().is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.kill();
    }
}

/// Runs a program to its end and gives its output; panics with it when the program fails.
#[must_use]
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(find(OsStr::new(program)))
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program} is missing ({error}): run tests/run, it installs what the tests need"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}\n{text}", output.status);
    text
}

/// What a child has written so far.
#[derive(Default)]
struct Output {
    lines: Mutex<Vec<Line>>,
    readers: AtomicUsize,
}

fn collect(source: impl Read + Send + 'static, name: Source, output: Arc<Output>) {
    output.readers.fetch_add(1, Ordering::SeqCst);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(source);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
            output.lines.lock().unwrap().push(Line { source: name, text });
            bytes.clear();
        }
        output.readers.fetch_sub(1, Ordering::SeqCst);
    });
}

/// Debian keeps nginx in a folder that the `PATH` of an ordinary user leaves out.
fn find(program: &OsStr) -> OsString {
    let on_path = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !on_path && !program.to_string_lossy().contains('/') {
        for dir in ["/usr/sbin", "/sbin", "/usr/local/sbin"] {
            let path = PathBuf::from(dir).join(program);
            if path.is_file() {
                return path.into();
            }
        }
    }
    program.to_owned()
}
