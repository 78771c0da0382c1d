//! What commands say of a stack, without starting one: its processes are others that only sleep, and answer that they are ready.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Output},
    thread,
};

use devstack::{
    os::process::ProcessId,
    stack::state::State,
    topology::{DATABASES, KAFKA_BROKERS, REDIS_URL, Role, SERVICES},
};
use rdkafka::mocking::MockCluster;
use tempfile::TempDir;

/// A project with a stack in it. What its processes stand for ends with it.
struct Project {
    directory: TempDir,
    sleepers: Vec<Child>,
}

impl Drop for Project {
    fn drop(&mut self) {
        for sleeper in &mut self.sleepers {
            sleeper.kill().unwrap_or_default();
            drop(sleeper.wait());
        }
    }
}

impl Project {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("Cargo.lock"), "").expect("written");
        for path in ["tools/devstack", ".devstack"] {
            fs::create_dir_all(directory.path().join(path)).expect("made");
        }
        Self { directory, sleepers: Vec::new() }
    }

    /// The stack as a command left it.
    fn left(&self, state: &State) {
        state.save(&self.directory.path().join(".devstack/stack.json")).expect("saved");
    }

    /// A process that sleeps.
    fn sleeper(&mut self) -> ProcessId {
        let child = Command::new("sleep").arg("600").spawn().expect("starts");
        let process = ProcessId::of(child.id()).expect("it sleeps");
        self.sleepers.push(child);
        process
    }

    /// Every service runs, payments so many times; the servers are others'.
    fn services(&mut self, payments: u32) -> State {
        let ready = ready();
        let mut state = State::default();
        state.scale.insert(Role::Payments, payments);
        for server in servers() {
            state.external.insert(server.to_owned());
            state.urls.insert(server.to_owned(), "elsewhere".to_owned());
        }
        let instances = SERVICES.map(|service| (service.role, 1)).into_iter();
        for (role, instance) in instances.chain((2..=payments).map(|at| (Role::Payments, at))) {
            let process = self.sleeper();
            let entry = state.entry_mut(role, instance);
            (entry.process, entry.port, entry.second_port) = (Some(process), Some(ready), Some(ready));
        }
        state
    }

    fn run(&self, words: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_devstack"));
        command.envs(servers().map(|server| (server, "elsewhere")));
        let output = command.args(words).current_dir(self.directory.path()).output().expect("runs");
        let Output { status, stdout, stderr } = output;
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status.code().expect("it was not killed"), text(stdout), text(stderr))
    }
}

/// What a command ended with, printed, and complained of.
type Said = (i32, String, String);

/// The variables that name servers.
fn servers() -> impl Iterator<Item = &'static str> {
    [KAFKA_BROKERS, REDIS_URL].into_iter().chain(DATABASES.map(|database| database.variable))
}

/// A port where everything is answered with 200, as long as this process lives.
fn ready() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("it listens").port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a connection");
            drop(connection.read(&mut [0; 4096]));
            drop(connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
        }
    });
    port
}

#[test]
fn up_says_what_it_stopped_and_that_everything_runs_only_where_it_did_nothing() {
    let mut project = Project::new();
    let state = project.services(2);
    project.left(&state);
    let (code, said, complaint) = project.run(&["up", "--detach", "--scale", "payments=1"]);
    assert!(code == 0 && said.contains("stopped payments-2"), "{code}: {said}{complaint}");
    assert!(!said.contains("everything runs already"), "{said}");
    let (code, said, complaint) = project.run(&["up", "--detach", "--scale", "payments=1"]);
    assert!(code == 0 && said.contains("everything runs already"), "{code}: {said}{complaint}");
}

#[test]
fn a_stack_that_is_down_is_not_shown_as_dead_and_has_no_addresses() {
    let mut project = Project::new();
    let (code, said, _) = project.run(&["status"]);
    assert!(code == 0 && said.contains("the stack is down"), "{code}: {said}");

    let state = project.services(1);
    project.left(&state);
    let (code, said, complaint) = project.run(&["env"]);
    assert!(code == 0 && said.contains("export GATEWAY_URL="), "{code}: {said}{complaint}");
    let (code, said, complaint) = project.run(&["down"]);
    assert!(code == 0 && said.contains("stopped 4 processes"), "{code}: {said}{complaint}");

    let (code, said, _) = project.run(&["status"]);
    assert!(code == 0 && said.contains("the stack is down") && !said.contains("dead"), "{code}: {said}");
    let (code, said, _) = project.run(&["status", "-o", "json"]);
    let all: Vec<serde_json::Value> = serde_json::from_str(&said).expect("JSON");
    assert!(code == 0 && all.iter().all(|process| process["state"] == "stopped"), "{code}: {said}");
    for command in [&["env"][..], &["produce", "orders"], &["audit"], &["inspector", "list"]] {
        let (code, said, complaint) = project.run(command);
        assert!(code == 1 && said.is_empty(), "{command:?} {code}: {said}");
        assert!(complaint.contains("the stack is down"), "{command:?}: {complaint}");
    }
}

#[test]
fn a_process_that_ended_by_itself_is_dead_and_env_names_it() {
    let mut project = Project::new();
    let mut state = project.services(1);
    let delivery = state.entry_mut(Role::Delivery, 1);
    let mut gone = delivery.process.expect("it runs");
    // Whatever has its id now is another process.
    gone.started += 1;
    delivery.process = Some(gone);
    project.left(&state);
    let (code, said, _) = project.run(&["status", "-o", "json"]);
    let all: Vec<serde_json::Value> = serde_json::from_str(&said).expect("JSON");
    let of = |name| all.iter().find(|process| process["name"] == name).map(|process| &process["state"]);
    assert_eq!(code, 0);
    assert_eq!(of("delivery").expect("it is listed"), "dead");
    assert_eq!(of("payments").expect("it is listed"), "running");
    let (code, said, complaint) = project.run(&["env"]);
    assert!(code == 0 && said.contains("export GATEWAY_URL="), "{code}: {said}");
    assert!(complaint.contains("delivery does not run"), "{complaint}");
}

#[test]
fn produce_names_the_topics_there_are_where_one_is_not() {
    let kafka = MockCluster::new(1).expect("a cluster");
    for topic in ["orders", "payments"] {
        kafka.create_topic(topic, 2, 1).expect("made");
    }
    let mut project = Project::new();
    let mut state = project.services(1);
    state.urls.insert(KAFKA_BROKERS.to_owned(), kafka.bootstrap_servers());
    project.left(&state);
    let (code, said, complaint) = project.run(&["produce", "order", "--tombstone"]);
    assert!(code == 1 && said.is_empty(), "{code}: {said}");
    assert_eq!(complaint, "error: there is no topic order; there are: orders, payments\n");
    let (code, said, complaint) = project.run(&["produce", "orders", "--tombstone", "--partition", "2"]);
    assert!(code == 1 && said.is_empty(), "{code}: {said}");
    assert_eq!(complaint, "error: orders has no partition 2, only 0 to 1\n");
    let (code, said, complaint) = project.run(&["produce", "orders", "--tombstone", "--partition", "1"]);
    assert!(code == 0 && said.starts_with("orders/1 offset 0"), "{code}: {said}{complaint}");
}
