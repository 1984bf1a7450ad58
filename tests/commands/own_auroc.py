"""A metric of scores from outside the package."""

from sklearn.metrics import roc_auc_score

from benchmark.method.evaluation.metrics import Answers, Metric


class Auroc(Metric):
    """AUROC of each class against the others, where each occurs."""

    title, needs, needs_likelihood = "my AUROC", "scores", True

    def compute(self, answers: Answers) -> float:
        """See `Metric.compute`."""
        if len(set(answers.labels.tolist())) < answers.classes:
            return float("nan")
        return float(roc_auc_score(answers.labels, answers.probabilities, multi_class="ovr"))
