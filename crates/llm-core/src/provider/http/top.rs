//! The best few of a ranking, for hosts that can only rank all.
use std::sync::Arc;

use crate::call::*;
use crate::error::Result;

/// Leaves out what stands behind the places that were asked for.
pub(crate) struct Top(Arc<dyn Provider>);

impl Top {
    pub(crate) fn around(host: Arc<dyn Provider>) -> Arc<dyn Provider> {
        Arc::new(Top(host))
    }
}

impl Provider for Top {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let reply = self.0.call(call).await?;
            if call.operation != Operation::Rerank {
                return Ok(reply);
            }
            let Request::Rerank(RerankRequest { top_n: Some(top_n), .. }) = call.request()? else { return Ok(reply) };
            let ranking = reply.single(|frame| if let Frame::Ranking(ranking) = frame { Some(ranking) } else { None });
            let mut ranking = ranking.await?;
            ranking.results.truncate(*top_n as usize);
            Ok(Reply::of(Frame::Ranking(ranking)))
        })
    }

    fn inner(&self) -> Option<&dyn Provider> {
        Some(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ranks;

    impl Provider for Ranks {
        fn call<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Reply>> {
            let place = |index: usize| Ranked { index, relevance_score: 1.0 - index as f32, ..Ranked::default() };
            let results = (0..3).map(place).collect();
            Box::pin(
                async move { Ok(Reply::of(Frame::Ranking(Ranking { results, usage: None, ..Ranking::default() }))) },
            )
        }
    }

    #[tokio::test]
    async fn the_best_few_are_kept_and_without_a_wish_all() {
        for (request, count) in [(RerankRequest::new("?", ["a"]).top_n(2), 2), (RerankRequest::new("?", ["a"]), 3)] {
            let reply = Top::around(Arc::new(Ranks)).call(&Call::new(request, Delivery::Whole)).await.unwrap();
            let ranking = reply.single(|frame| if let Frame::Ranking(ranking) = frame { Some(ranking) } else { None });
            assert_eq!(ranking.await.unwrap().results.len(), count);
        }
    }
}
