//! The messages of a file: what became of each.

use forebay_queue::MessageResult;

use super::{
    answer::Answer,
    operator::Operator,
    problem::{Problem, Result},
    reply::{MessagesView, Reply},
};

/// Runs that are read at a time.
const PAGE: usize = 500;

impl Operator {
    /// How far the file is, as one [`Reply::Messages`], and then one [`Reply::MessageRun`] for each run of messages that had
    /// the same result. Read by pages: a file may have a million.
    ///
    /// # Errors
    /// Not found, also when the file was never handed over message by message.
    pub(super) async fn message_list(
        &self,
        id: &str,
        results: &[MessageResult],
        mut from: u64,
        limit: Option<usize>,
        answer: &Answer,
    ) -> Result<()> {
        let id = self.resolve(id).await?;
        let entry = self.dependencies.queue.get(id).await?;
        let Some(progress) = self.dependencies.queue.progress(id).await? else {
            let text = format!(
                "file {id} was never handed over message by message; its route has no [route.messages], or it waits for its turn"
            );
            return Err(Problem::not_found(text));
        };
        answer.give(Reply::Messages(Box::new(MessagesView { file: self.view(&entry), progress }))).await?;
        let mut left = limit.unwrap_or(usize::MAX);
        while left > 0 {
            let runs = self.dependencies.queue.outcomes(id, from, PAGE).await?;
            let Some(last) = runs.last() else { break };
            from = last.end();
            for run in runs.into_iter().filter(|run| results.is_empty() || results.contains(&run.result)) {
                if left == 0 {
                    break;
                }
                left -= 1;
                answer.give(Reply::MessageRun(run)).await?;
            }
            // Also where nothing passes: whoever asked may have gone long ago.
            answer.is_wanted()?;
        }
        Ok(())
    }
}
