//! Makes a conversation short enough for a context window, exact to the token: its oldest turns go.
use super::Llm;
use crate::call::*;
use crate::error::{Error, Kind, Result};

/// Fields of a question that change what its prompt costs.
const COSTS: [&str; 5] =
    ["add_generation_prompt", "chat_template", "chat_template_kwargs", "media_io_kwargs", "mm_processor_kwargs"];

impl Llm {
    /// The same question with so many of its oldest turns cut that it fits into `limit` tokens, its answer of `max_tokens`
    /// included; without a limit, into the model's own context window.
    ///
    /// A turn is what the user says and all that the assistant and its tools say to it. Turns go whole; system messages
    /// stay, and so does the last turn. The model's own tokenizer counts, tools included: once for a conversation that fits,
    /// and for one that does not a few times more, however long it is.
    ///
    /// ```
    /// use llm_core::{ChatRequest, Config, Llm, Message};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> llm_core::Result<()> {
    /// let llm = Llm::new(&Config::from_toml("[models.a]\nprovider = 'fake'")?)?; // a word is a token
    /// let talk = vec![
    ///     Message::system("Be terse."),
    ///     Message::user("What is the capital of France?"),
    ///     Message::assistant("Paris."),
    ///     Message::user("And of Italy?"),
    /// ];
    /// let request = llm.truncate(ChatRequest::from(talk).max_tokens(5), 10).await?;
    /// let left: Vec<_> = request.messages.iter().map(|m| m.content.text()).collect();
    /// assert_eq!(left, ["Be terse.", "And of Italy?"]);
    /// println!("{}", llm.chat(request).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `ContextLength`, with how many tokens too many there are, if the last turn alone does not fit; `Invalid` without
    /// `max_tokens` where there is no limit, or without a limit where the model's window is not known; and what
    /// [`Llm::count_tokens`] has.
    pub async fn truncate(
        &self,
        request: impl Into<ChatRequest>,
        limit: impl Into<Option<u32>>,
    ) -> Result<ChatRequest> {
        let request = request.into();
        let starts = turns(&request.messages);
        let whole = self.cost(&request, 0).await?;
        let room = Room::of(&request, limit.into(), whole.max_model_len)?;
        if room.fits(whole.count) {
            return Ok(request);
        }
        let last = starts.len().saturating_sub(1);
        let least = if last == 0 { whole.count } else { self.cost(&request, starts[last]).await?.count };
        room.check(least)?;
        // So many turns are too few to cut, and so many enough: the fewer go the more is left, so halving finds the fewest.
        let (mut few, mut enough) = (0, last);
        while enough - few > 1 {
            let middle = few + (enough - few) / 2;
            match room.fits(self.cost(&request, starts[middle]).await?.count) {
                true => enough = middle,
                false => few = middle,
            }
        }
        let messages = left(&request.messages, starts[enough]);
        Ok(ChatRequest { messages, ..request })
    }

    /// What is left of the prompt if all turns before this message go.
    async fn cost(&self, request: &ChatRequest, start: usize) -> Result<Tokens> {
        let field = |name: &str| Some((name.to_owned(), request.extra.get(name)?.clone()));
        let tools = (!request.tools.is_empty()).then(|| ("tools".to_owned(), request.tools.clone().into()));
        self.tokenize(TokenizeRequest {
            model: request.model.clone(),
            prompt: left(&request.messages, start).into(),
            add_special_tokens: true,
            extra: COSTS.into_iter().filter_map(field).chain(tools).collect(),
        })
        .await
    }
}

/// The room that a prompt has.
struct Room {
    limit: u32,
    answer: u32,
}

impl Room {
    fn of(request: &ChatRequest, limit: Option<u32>, window: Option<u32>) -> Result<Room> {
        let answer = request.sampling.max_tokens;
        if limit.is_none() && answer.is_none() {
            // A prompt that fills the window to its brim would be answered with nothing.
            let message = "`max_tokens` is missing: how much of the model's context window is for the answer?";
            return Err(Error::invalid(message).param("max_tokens"));
        }
        let unknown = || Error::invalid("the model's context window is not known: give a limit").param("limit");
        Ok(Room { limit: limit.or(window).ok_or_else(unknown)?, answer: answer.unwrap_or_default() })
    }

    fn over(&self, prompt: usize) -> usize {
        (prompt + self.answer as usize).saturating_sub(self.limit as usize)
    }

    fn fits(&self, prompt: usize) -> bool {
        self.over(prompt) == 0
    }

    fn check(&self, prompt: usize) -> Result<()> {
        let Room { limit, answer } = self;
        match self.over(prompt) {
            0 => Ok(()),
            over => Err(Error::new(
                Kind::ContextLength,
                format!("the last turn alone is {over} tokens too long: {prompt}, and {answer} for the answer, are more than {limit}"),
            )
            .param("messages")),
        }
    }
}

fn is_system(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

/// Where turns begin: at what a user says to an answer. What stands before the first user is a turn, too.
fn turns(messages: &[Message]) -> Vec<usize> {
    let mut before = None;
    let mut starts = Vec::new();
    for (i, message) in messages.iter().enumerate().filter(|(_, message)| !is_system(message)) {
        let begins = message.role == Role::User && before != Some(Role::User);
        if begins || before.is_none() {
            starts.push(i);
        }
        before = Some(message.role);
    }
    starts
}

fn left(messages: &[Message], start: usize) -> Vec<Message> {
    let stays = |(i, message): &(usize, &Message)| *i >= start || is_system(message);
    messages.iter().enumerate().filter(stays).map(|(_, message)| message.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::provider::fake::{self, Fake};

    /// The fake, in which a word is a token, and how often it was asked to count.
    struct Counts(Fake, Arc<AtomicUsize>);

    impl Provider for Counts {
        fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
            self.1.fetch_add(usize::from(call.operation == Operation::Tokenize), Ordering::Relaxed);
            self.0.call(call)
        }

        fn serves(&self) -> Operations {
            self.0.serves()
        }
    }

    fn llm(max_model_len: u32) -> (Llm, Arc<AtomicUsize>) {
        let (fake, counts) = (Fake::new(fake::Config { max_model_len, ..Default::default() }), Arc::default());
        (Llm::of(Counts(fake, Arc::clone(&counts))).unwrap(), counts)
    }

    fn words(request: &ChatRequest) -> Vec<String> {
        request.messages.iter().map(|m| m.content.text()).collect()
    }

    /// A system message of one word, and turns of two words each.
    fn talk(turns: usize) -> Vec<Message> {
        let turn = |i| [Message::user(format!("q{i}")), Message::assistant(format!("a{i}"))];
        [Message::system("s")].into_iter().chain((0..turns).flat_map(turn)).chain([Message::user("last")]).collect()
    }

    #[tokio::test]
    async fn exactly_as_many_of_the_oldest_turns_go_as_must() {
        let (llm, counts) = llm(8192);
        for (turns, limit) in [(0, 2u32), (1, 2), (1, 4), (5, 7), (5, 8), (100, 51), (100, 202), (1000, 2001)] {
            counts.store(0, Ordering::Relaxed);
            let request = llm.truncate(talk(turns), limit).await.unwrap();
            let stay = turns.min((limit as usize - 2) / 2);
            assert_eq!(
                words(&request),
                words(&[talk(0)[..1].to_vec(), talk(turns).split_off(1 + 2 * (turns - stay))].concat().into())
            );
            let most = if turns == stay { 1 } else { 2 + turns.ilog2() as usize + 1 };
            assert!(
                counts.load(Ordering::Relaxed) <= most,
                "{} counts for {turns} turns",
                counts.load(Ordering::Relaxed)
            );
        }
    }

    #[tokio::test]
    async fn a_turn_goes_with_its_tools_and_never_in_part() {
        let mut calls = Message::assistant("");
        calls.tool_calls.push(ToolCall::default());
        let talk = vec![
            Message::assistant("welcome"),
            Message::user("weather"),
            calls,
            Message::tool("c1", "rain"),
            Message::assistant("wet"),
            Message::system("late"),
            Message::user("two"),
            Message::user("questions"),
        ];
        let (llm, _) = llm(8192);
        let left = async |limit: u32| words(&llm.truncate(talk.clone(), limit).await.unwrap());
        assert_eq!(left(7).await.len(), 8);
        assert_eq!(left(6).await, ["weather", "", "rain", "wet", "late", "two", "questions"]);
        for limit in 3..6 {
            assert_eq!(left(limit).await, ["late", "two", "questions"]);
        }
        let error = llm.truncate(talk.clone(), 2).await.unwrap_err();
        assert_eq!(
            error.message(),
            "the last turn alone is 1 tokens too long: 3, and 0 for the answer, are more than 2"
        );
        assert_eq!(error.kind(), Kind::ContextLength);
    }

    #[tokio::test]
    async fn the_answer_has_its_room_in_the_models_own_window() {
        let (llm, _) = llm(10);
        let request = ChatRequest::from(talk(10));
        let cut = llm.truncate(request.clone().max_tokens(4), None).await.unwrap();
        assert_eq!(words(&cut), ["s", "q8", "a8", "q9", "a9", "last"]);
        assert_eq!(cut.sampling.max_tokens, Some(4));
        assert_eq!(llm.truncate(request.clone(), None).await.unwrap_err().get_param(), Some("max_tokens"));
        let error = llm.truncate(request.max_tokens(9), None).await.unwrap_err();
        assert!(error.message().starts_with("the last turn alone is 1 tokens too long: 2, and 9 for"), "{error}");
    }
}
