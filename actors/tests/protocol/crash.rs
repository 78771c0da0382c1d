//! A process dies at every place in the protocol where it can make a difference, and its successor makes good.

use std::{
    io::Write,
    time::{Duration, Instant, SystemTime},
};

use actors::{dead_letters::DeadLetter, failpoint::Failpoint};
use futures_util::{StreamExt, stream};

use crate::{
    delivery::requeue,
    support::{
        World,
        member::{Manners, Member},
        model::Load,
        until,
    },
};

/// What a run may take unless all failpoints were asked for.
const BUDGET: Duration = Duration::from_secs(60);

/// Most of the time is spent waiting for sessions to end: several at a time.
const AT_A_TIME: usize = 4;

/// What has to happen for a failpoint to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// Load alone; at the hit with this number, so that some of it is done and some is not.
    Load(u32),
    /// The last owner died, with rows committed and not published.
    AfterADeath,
    /// Another member joins.
    Join,
    /// Dead letters are put back.
    Requeue,
    /// It writes rows that belong to no partition.
    Writer(u32),
    /// Another writer has died.
    AfterAWriter,
}

/// A failpoint that is not named here is expected to be reached under load.
fn scene(point: Failpoint) -> Scene {
    match point {
        Failpoint::RelayRead
        | Failpoint::ClaimBegun
        | Failpoint::ClaimCommitted
        | Failpoint::IntentWritten => Scene::AfterADeath,
        Failpoint::RebalanceRevoked | Failpoint::RebalanceDrained => Scene::Join,
        Failpoint::RequeueMoved | Failpoint::RequeueCommitted => Scene::Requeue,
        Failpoint::WriterWritten | Failpoint::WriterCommitted => Scene::Writer(10),
        Failpoint::WriterTookOver => Scene::AfterAWriter,
        point if point.name().starts_with("batch-") => Scene::Load(4),
        _ => Scene::Load(1),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_may_die_anywhere() {
    let all = std::env::var_os("ALL_FAILPOINTS").is_some();
    // Another beginning each time, so that in a few runs all have had their turn.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let turn = usize::try_from(now.as_secs()).expect("fits") % Failpoint::ALL.len();
    let points = Failpoint::ALL.iter().cycle().skip(turn).take(Failpoint::ALL.len());
    let started = Instant::now();
    let dying = points.map(|point| async move {
        if !all && started.elapsed() > BUDGET {
            return None;
        }
        let began = started.elapsed();
        eprintln!("{:.0} s: dying at {} ({:?})", began.as_secs_f64(), point.name(), scene(*point));
        dies_at(*point).await;
        Some(point.name())
    });
    let died: Vec<_> = stream::iter(dying).buffer_unordered(AT_A_TIME).collect().await;
    let names: Vec<_> = died.into_iter().flatten().collect();
    // Not by the macro, whose words a test that passes keeps to itself.
    writeln!(
        std::io::stderr(),
        "died at {} of {} failpoints in {:.0} s: {}",
        names.len(),
        Failpoint::ALL.len(),
        started.elapsed().as_secs_f64(),
        names.join(", ")
    )
    .expect("printed");
}

async fn dies_at(point: Failpoint) {
    let world = World::new(2).await;
    let load = Load::of_everything(24);
    let half = load.len() / 2;
    load.send(&world, 0..half).await;
    let scene = scene(point);
    if scene == Scene::AfterADeath {
        let mut first = Member::spawn(&world, &Manners::failing(Failpoint::BatchCommitted.name()));
        first.aborted().await;
    }
    let doomed = match scene {
        Scene::Load(hit) => Manners::failing(format!("{}:{hit}", point.name())),
        Scene::Writer(hit) => Manners { writes: true, ..Manners::failing(format!("{}:{hit}", point.name())) },
        Scene::AfterAWriter => Manners { writes: true, ..Manners::failing(point.name()) },
        Scene::AfterADeath | Scene::Join | Scene::Requeue => Manners::failing(point.name()),
    };
    match scene {
        Scene::Load(_) | Scene::AfterADeath | Scene::Writer(_) => {
            let mut doomed = Member::spawn(&world, &doomed);
            load.send(&world, half..load.len()).await;
            doomed.aborted().await;
        }
        Scene::Join => {
            let mut doomed = Member::spawn(&world, &doomed);
            load.send(&world, half..load.len()).await;
            doomed.until_claimed(&world).await;
            let joining = Member::spawn(&world, &Manners::default());
            doomed.aborted().await;
            joining.stop().await;
        }
        Scene::Requeue => {
            let first = Member::spawn(&world, &Manners::default());
            load.send(&world, half..load.len()).await;
            load.check(&world, false).await;
            first.stop().await;
            for letter in refused(&world).await {
                requeue(&world, &letter).await;
            }
            let mut doomed = Member::spawn(&world, &Manners { forgiving: true, ..doomed });
            doomed.aborted().await;
        }
        Scene::AfterAWriter => {
            let first = Member::spawn(&world, &Manners { writes: true, ..Manners::default() });
            load.send(&world, half..load.len()).await;
            until("the first has written", || async {
                world.number("SELECT count(*) FROM written").await > 20
            })
            .await;
            first.kill().await;
            let mut doomed = Member::spawn(&world, &doomed);
            doomed.aborted().await;
        }
    }
    let writes = matches!(scene, Scene::Writer(_) | Scene::AfterAWriter);
    let dead_writers = world.texts("SELECT lane FROM outbox_instance").await;
    let successor =
        Member::spawn(&world, &Manners { forgiving: scene == Scene::Requeue, writes, ..Manners::default() });
    if writes {
        until("what dead writers left is taken over", || async {
            let alive = world.texts("SELECT lane FROM outbox_instance").await;
            !alive.is_empty() && alive.iter().all(|lane| !dead_writers.contains(lane))
        })
        .await;
        // Nothing new, so that an empty outbox means that all of it is published.
        successor.stop().await;
        let last = Member::spawn(&world, &Manners::default());
        load.check(&world, false).await;
        last.stop().await;
        return;
    }
    load.check(&world, scene == Scene::Requeue).await;
    successor.stop().await;
}

/// First deaths of what the toy refused, in the order in which they are to run again.
async fn refused(world: &World) -> Vec<DeadLetter> {
    let letters = world.letters().await;
    let mut refused: Vec<_> = letters.into_iter().filter(|letter| letter.error_code == "refused").collect();
    refused.sort_by_key(|letter| letter.offset.0);
    refused.dedup_by_key(|letter| letter.id);
    refused
}
