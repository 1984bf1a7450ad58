"""A metric of predictions from outside the package."""

from sklearn.metrics import f1_score

from benchmark.method.evaluation.metrics import Answers, Metric


class MacroF1(Metric):
    """Macro-F1 over all classes that occur or are predicted."""

    title = "my F1"

    def compute(self, answers: Answers) -> float:
        """See `Metric.compute`."""
        return float(f1_score(answers.labels, answers.predicted, average="macro"))
