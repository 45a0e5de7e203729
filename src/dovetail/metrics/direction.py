"""Whether lower or higher values of a figure are better: the only answer to that question."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

Direction = Literal["min", "max"]

#: Whole words in the names of figures for which higher is better. A number at the end of a word does not count.
_HIGHER: Final = frozenset(
    """
    acc accuracy ap auc auprc auroc bleu chrf dice f1 f2 fbeta iou jaccard kappa map mcc miou mrr ndcg pearson precision
    psnr r2 recall reward rouge sensitivity similarity snr spearman specificity ssim
    """.split()  # noqa: SIM905 (a list of words reads better without quotes)
)
#: Those for which lower is better.
_LOWER: Final = frozenset(
    """
    brier cer distance divergence ece eer error errors fid kid kl logloss lpips mae mape mce mse msle nll perplexity ppl
    rmse rmsle smape wer
    """.split()  # noqa: SIM905 (as above)
)
_SPLIT: Final = re.compile(r"^(train|val|test)[_/]")
_WORD: Final = re.compile(r"[^\W_]+")


def direction(figure: str, metrics: Iterable[Any] = ()) -> Direction | None:
    """Return whether lower (``"min"``) or higher (``"max"``) values of a figure are better; None if nothing says it.

    A metric that declares it is believed first. Otherwise the whole words of the name decide: any loss is minimised,
    ``val_top5_accuracy`` is maximised, and a name with known words of both kinds says nothing.

    Args:
        figure: its name, with or without the prefix of a split, such as ``val_accuracy``.
        metrics: the built metrics of the run. A metric may have an attribute ``higher_is_better``: a dict of its
            figures, such as ``{"auc": True, "gap": False}``, or a bool for all of them.
    """
    name = _SPLIT.sub("", figure)
    declared = [getattr(metric, "higher_is_better", None) for metric in metrics]
    for figures in declared:
        if isinstance(figures, Mapping) and name in figures:
            return "max" if figures[name] else "min"
    words = {word for found in _WORD.findall(name.casefold()) for word in (found, found.rstrip("0123456789"))}
    if words & {"loss", "losses"}:
        return "min"
    known = {word for words_of, word in ((_HIGHER, "max"), (_LOWER, "min")) if words & words_of}
    # A bool covers every figure of its metric; which figures those are is known only after a batch.
    known = known or {"max" if figures else "min" for figures in declared if isinstance(figures, bool)}
    return None if len(known) != 1 else "max" if "max" in known else "min"
