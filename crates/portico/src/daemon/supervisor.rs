//! Ends the tasks of the daemon in order; a task that ends by itself ends them all.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The tasks, in the three phases in which they end.
///
/// ```text
///   requesters stop asking ──► the writer drains ──► followers end
/// ```
#[derive(Debug, Default)]
pub struct Supervisor {
    requesters: Phase,
    writer: Phase,
    followers: Phase,
}

/// Tasks that end together.
#[derive(Debug, Default)]
pub struct Phase {
    cancel: CancellationToken,
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Phase {
    /// Starts a task; it must not end before the token that it is given is cancelled.
    pub fn spawn<F, E>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        anyhow::Error: From<E>,
        E: Send + 'static,
    {
        let task = task(self.cancel.clone());
        self.tasks
            .spawn(async move { (name, task.await.map_err(anyhow::Error::from)) });
    }

    /// Waits for the first task that ends, and says how.
    async fn first_end(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow!("{name} ended by itself"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} ended")),
            Some(Err(error)) => anyhow::Error::from(error).context("a task was lost"),
            None => std::future::pending().await,
        }
    }

    /// Cancels the tasks and waits for them; what does not end in time is dropped.
    async fn end(&mut self) -> anyhow::Result<()> {
        self.cancel.cancel();
        let drained = async {
            let mut worst = Ok(());
            while let Some(joined) = self.tasks.join_next().await {
                let (name, result) = joined.context("a task was lost")?;
                if let Err(error) = result {
                    worst = Err(error.context(format!("{name} did not end well")));
                }
            }
            worst
        };
        match tokio::time::timeout(PATIENCE, drained).await {
            Ok(worst) => worst,
            Err(_) => {
                self.tasks.abort_all();
                Err(anyhow!("a task did not end within {PATIENCE:?}"))
            }
        }
    }
}

impl Supervisor {
    /// Who asks: protocols, the dashboard, the WAN.
    pub const fn requesters(&mut self) -> &mut Phase {
        &mut self.requesters
    }

    /// Who decides.
    pub const fn writer(&mut self) -> &mut Phase {
        &mut self.writer
    }

    /// Who acts on what was decided.
    pub const fn followers(&mut self) -> &mut Phase {
        &mut self.followers
    }

    /// Waits for something that the tasks bring about.
    ///
    /// # Errors
    /// When a task ended meanwhile.
    pub async fn until<T>(&mut self, done: impl Future<Output = T>) -> anyhow::Result<T> {
        tokio::select! {
            done = done => Ok(done),
            error = self.requesters.first_end() => Err(error),
            error = self.followers.first_end() => Err(error),
            error = self.writer.first_end() => {
                // it also ends when it misses a follower, which says why a moment later
                let cause = tokio::time::timeout(CAUSE_PATIENCE, self.followers.first_end()).await;
                Err(cause.unwrap_or(error))
            }
        }
    }

    /// Runs until `stop`, then ends everything in order.
    ///
    /// # Errors
    /// When a task ended by itself, or did not end when it was told to.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let expected = self.until(stop).await;
        let requesters = self.requesters.end().await;
        let writer = self.writer.end().await;
        let followers = self.followers.end().await;
        expected.and(requesters).and(writer).and(followers)
    }
}

const CAUSE_PATIENCE: Duration = Duration::from_millis(200);

/// Long enough for a slow disk, short enough for whoever waits for the shutdown.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn phases_end_in_order() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::default();
        let task = |name: &'static str, phase: &mut Phase| {
            let order = Arc::clone(&order);
            phase.spawn(name, async move |token: CancellationToken| {
                token.cancelled().await;
                order.lock().unwrap().push(name);
                anyhow::Ok(())
            });
        };
        task("translator", supervisor.followers());
        task("writer", supervisor.writer());
        task("pcp", supervisor.requesters());

        supervisor.run(async {}).await.unwrap();

        assert_eq!(*order.lock().unwrap(), ["pcp", "writer", "translator"]);
    }

    #[tokio::test]
    async fn task_that_ends_by_itself_ends_all() {
        let mut supervisor = Supervisor::default();
        supervisor
            .followers()
            .spawn("dns", async |token: CancellationToken| {
                token.cancelled().await;
                anyhow::Ok(())
            });
        supervisor
            .requesters()
            .spawn("pcp", async |_| Err(anyhow!("no socket")));

        let error = supervisor.run(std::future::pending()).await.unwrap_err();

        assert_eq!(format!("{error:#}"), "pcp ended: no socket");
    }

    #[tokio::test(start_paused = true)]
    async fn writer_that_misses_a_follower_is_not_the_cause() {
        let mut supervisor = Supervisor::default();
        supervisor
            .writer()
            .spawn("gateway", async |_| Err(anyhow!("the follower is gone")));
        supervisor.followers().spawn("translator", async |_| {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Err(anyhow!("no TUN device"))
        });

        let error = supervisor.run(std::future::pending()).await.unwrap_err();

        assert_eq!(format!("{error:#}"), "translator ended: no TUN device");
    }

    #[tokio::test(start_paused = true)]
    async fn task_that_hangs_is_named_late_and_dropped() {
        let mut supervisor = Supervisor::default();
        supervisor
            .writer()
            .spawn("writer", |_| std::future::pending::<anyhow::Result<()>>());

        assert!(supervisor.run(async {}).await.is_err());
    }
}
