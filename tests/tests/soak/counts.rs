//! What became of the questions, and whether the house counted as many.
use std::fmt;

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// An answer, to its end.
    Answered,
    /// A status and an error.
    Refused,
    /// Half an answer and an error.
    BrokenOff,
    /// Its client left.
    Left,
}

/// Questions by kind and by end.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    asked: u64,
    calls: Ends,
    nonsense: Ends,
    looks: Ends,
}

#[derive(Debug, Default, Clone)]
struct Ends([u64; 4]);

impl Ends {
    fn of(&self, end: End) -> u64 {
        self.0[end as usize]
    }

    fn all(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// What kind of question it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// For a model.
    Call,
    /// For nobody.
    Nonsense,
    /// For the house itself.
    Look,
}

impl Counts {
    /// A question is sent; its end must follow.
    pub(crate) fn asks(&mut self) {
        self.asked += 1;
    }

    pub(crate) fn ends(&mut self, about: About, end: End) {
        let ends = match about {
            About::Call => &mut self.calls,
            About::Nonsense => &mut self.nonsense,
            About::Look => &mut self.looks,
        };
        ends.0[end as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.asked += other.asked;
        for (mine, theirs) in
            [(&mut self.calls, &other.calls), (&mut self.nonsense, &other.nonsense), (&mut self.looks, &other.looks)]
        {
            mine.0.iter_mut().zip(theirs.0).for_each(|(mine, theirs)| *mine += theirs);
        }
    }

    /// Every question has an end, and the house has seen each of them once; those whose clients left at once perhaps not.
    pub(crate) fn check(&mut self, metrics: &str) {
        assert_eq!(self.asked, self.calls.all() + self.nonsense.all() + self.looks.all());
        let requests = |outcome: &str| sum(metrics, "llm_requests_total{", outcome);
        let adds_up = |what: &str, counted: u64, told: u64, left: u64| {
            assert!((told..=told + left).contains(&counted), "{what}: {counted} counted, {told} told, {left} left");
        };
        let left = self.calls.of(End::Left);
        let one = 1; // before the first count
        adds_up("calls", requests("") - one, self.calls.all() - left, left);
        adds_up("answers", requests("outcome=\"finished\"") - one, self.calls.of(End::Answered), left);
        let refused = self.nonsense.of(End::Refused);
        adds_up("refusals", sum(metrics, "llm_refusals_total{", ""), refused, self.nonsense.of(End::Left));
        for end in [End::Answered, End::Refused, End::BrokenOff, End::Left] {
            assert!(self.calls.of(end) > 0, "none was {end:?}: {self}");
        }
    }
}

/// All of a counter's values whose labels hold this.
fn sum(metrics: &str, counter: &str, label: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(counter) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |end| self.calls.of(end) + self.nonsense.of(end) + self.looks.of(end);
        let [answered, refused, broken, left] = [End::Answered, End::Refused, End::BrokenOff, End::Left].map(of);
        write!(f, "{} asked: {answered} answered, {refused} refused, {broken} broken off, {left} left", self.asked)
    }
}
