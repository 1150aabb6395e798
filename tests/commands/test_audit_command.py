"""``python src/audit.py``: findings from the command line, an exit code, and lines for what can't be audited."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from examples import few
from torch import nn

from spikefront.api import AUDITS, create_model
from spikefront.config import CONF

TINY = ["model=sdt_1_16", "data=digits", "threads=1"]


class Half(nn.Module):
    """Of a user's own, for ``target=``: takes events time first, reads values that are no spikes."""

    timesteps = 2

    def __init__(self, classes=3):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, classes)

    def forward(self, x):
        return self.last(self.first(x.flatten(2))).mean(0)


def test_a_sound_network_exits_with_0_in_every_format(script):
    code, out, _ = script("audit", *TINY, "checks=[additions,state,silent]", "format=json")
    found = json.loads(out)
    assert code == 0 and found["holds"] == ["additions", "state"] and not found["fails"]
    assert found["findings"][2]["verdict"] == "not tried" and len(found["layers"]) == 12
    code, out, _ = script("audit", *TINY, "checks=[state]")
    assert code == 0 and "state  holds" in out and "no claim fails" in out and "note: random weights" in out
    code, out, _ = script("audit", *TINY, "checks=state", "format=markdown")
    assert code == 0 and out.startswith("| check | verdict |")


def test_a_checkpoint_is_audited_with_its_weights(script, tmp_path):
    model = create_model("sdt_1_16", data="digits")
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.num_batches_tracked.fill_(1)  # trained, and silent all over
    torch.save({"state_dict": model.state_dict()}, tmp_path / "silent.pth")
    code, out, _ = script("audit", *TINY, f"checkpoint={tmp_path}/silent.pth", "checks=[silent]")
    assert code == 1 and "silent  fails" in out and "1 fail: silent" in out and "random" not in out


def test_anybodys_network_by_its_name(script, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "__spec__", None, raising=False)
    monkeypatch.setitem(sys.modules, "theirs", sys.modules[__name__])
    shaped = ["target=theirs:Half", "shape=[2,8,1,1]", "time_first=true", "threads=1", "format=json"]
    code, out, err = script("audit", *shaped, "arguments={classes: 5}", "checks=[additions,batch,causality]")
    assert code == 1 and json.loads(out)["fails"] == ["additions"], err
    assert "noise" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    few(
        [
            (["checks=[bach]"], "did you mean 'batch'"),
            (["checks=[]"], "give all, or names"),
            (["format=tabel"], "did you mean 'table'"),
            (["target=torch.nn"], "write package.module:callable"),
            (["target=torch.nn:Liner"], "can't be found"),
            (["target=torch.nn:Linear", "shape=[3]"], "fails: TypeError"),
            (["target=torch:zeros", "arguments={size: [2]}", "shape=[3]"], "gives a Tensor"),
            (["target=torch.nn:Flatten", "shape=[0]"], "give a sample's sizes"),
            (["target=torch.nn:Flatten", "checkpoint=x.ckpt"], "leave checkpoint=… out"),
            (["shape=[3,8,8]"], "give target=… too"),
            (
                ["target=torch.nn:Linear", "arguments={in_features: 4, out_features: 2}", "shape=[3]"],
                "doesn't take a batch",
            ),
        ]
    ),
)
def test_what_a_user_can_mend_is_one_line(script, arguments, said):
    code, _, err = script("audit", *TINY, *arguments)
    assert code == 1 and said in err and len(err.strip().splitlines()) == 1, err


def test_help_names_every_check():
    told = (CONF / "audit.yaml").read_text(encoding="utf-8")
    assert all(f" {name}" in told for name in AUDITS)
