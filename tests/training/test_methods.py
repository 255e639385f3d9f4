"""Every method ends where plain trl, peft, transformers and torch end on the same batches."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import UsageError
from slmbench.models import attach_adapter, held_as, load_model, resolve_model
from slmbench.recipe import load_recipe
from slmbench.training import prepare_training, train_adapter
from slmbench.training._rows import as_dataset

QUICK = ("adapters.note.steps=5", "optim.batch=4", "optim.warmup_steps=2", "rows=40", "evaluation.tasks=[nano_note]")


def _recipe(*overrides):
    return load_recipe("nano-quickstart", default_catalog(), (*QUICK, *overrides))


def _train(out, recipe, **options):
    catalog = default_catalog()
    source = resolve_model(recipe.spec.model, catalog)
    return Path(train_adapter(recipe, "note", catalog, source, out=str(out), **options))


def _tensors(folder):
    from safetensors.torch import load_file

    (path,) = folder.glob("*model.safetensors")
    return load_file(path)


def _record(folder):
    return json.loads((folder / "training.json").read_text())


def _by_plain_trainer(recipe, out, *, adapter=None, optimizer=None):
    """What trl's (transformers') own trainer makes of the same batches, in its own padded way: its tensors."""
    import torch
    import transformers
    import trl

    catalog = default_catalog()
    source = resolve_model(recipe.spec.model, catalog)
    prepared = prepare_training(recipe, "note", catalog, source)
    optim = recipe.optim_of("note")
    architecture = prepared.source.architecture
    order = [row for batch in prepared.plan.batches for row in batch]
    dataset = as_dataset(prepared.rows, prepared.names, architecture, loss=recipe.spec.loss)
    dataset = dataset.select(order).remove_columns("task_id")
    loaded = load_model(source)
    options = {
        "output_dir": str(out),
        "per_device_train_batch_size": optim.batch,
        "gradient_accumulation_steps": optim.accumulate,
        "max_steps": prepared.plan.steps,
        "learning_rate": optim.lr,
        "lr_scheduler_type": optim.schedule,
        "warmup_steps": optim.warmup_steps,
        "weight_decay": optim.weight_decay,
        "max_grad_norm": optim.clip_norm,
        "seed": recipe.spec.seed,
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    if architecture == "seq2seq":
        import peft

        transformers.set_seed(recipe.spec.seed)
        model = peft.get_peft_model(loaded.model, adapter)
        arguments = transformers.Seq2SeqTrainingArguments(**options)
        collate = transformers.DataCollatorForSeq2Seq(loaded.tokenizer, model=model)
        trainer = transformers.Seq2SeqTrainer(model=model, args=arguments, train_dataset=dataset, data_collator=collate)
    else:
        arguments = trl.SFTConfig(**options, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
        trainer = trl.SFTTrainer(
            model=loaded.model,
            args=arguments,
            train_dataset=dataset,
            processing_class=loaded.tokenizer,
            peft_config=adapter,
        )
    if optimizer is not None:
        trainer.optimizer = optimizer(trainer.model)
    trainer.train()
    if adapter is None:
        return {name: tensor.detach() for name, tensor in trainer.model.named_parameters()}
    from peft import get_peft_model_state_dict

    return {
        name: tensor.detach().to(torch.float32) for name, tensor in get_peft_model_state_dict(trainer.model).items()
    }


def _lora(**options):
    import peft

    options = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | options
    return peft.LoraConfig(**options)


def _same(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys()
    far = {name: float((ours[name].float() - theirs[name].float()).abs().max()) for name in ours}
    assert max(far.values()) < tolerance, max(far, key=far.get)


def _moved(ours, recipe):
    """How far a model is from its base: a comparison of two that never moved says nothing."""
    base = dict(load_model(resolve_model(recipe.spec.model, default_catalog())).model.named_parameters())
    return max(float((ours[name] - base[name].detach()).abs().max()) for name in ours if name in base)


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (("optim.accumulate=3", "optim.weight_decay=0.1", "optim.clip_norm=0.5"), {}),
        (("lora.rslora=true", "lora.rank=9", "lora.alpha=4"), {"use_rslora": True, "r": 9, "lora_alpha": 4}),
        (("lora.dora=true", "optim.schedule=cosine"), {"use_dora": True}),
        (("loss=all",), {}),
    ],
    ids=["accumulated, decayed, clipped", "rslora", "dora", "all tokens"],
)
def test_adapter_is_that_of_plain_trl_on_the_same_batches(tmp_path, overrides, options):
    recipe = _recipe("optim.lr=1e-3", *overrides)
    ours = _tensors(_train(tmp_path / "ours", recipe))
    theirs = _by_plain_trainer(recipe, tmp_path / "theirs", adapter=_lora(**options))
    _same(ours, theirs, 1e-4)
    grown = [tensor.abs().max() for name, tensor in ours.items() if "lora_B" in name]
    assert min(grown) > 1e-3  # All began at zero.


def test_loraplus_is_that_of_pefts_optimizer(tmp_path):
    import torch
    from peft.optimizers import create_loraplus_optimizer

    recipe = _recipe("optim.lr=2e-4", "lora.lr_ratio=16", "optim.weight_decay=0.05")

    def optimizer(model):
        options = {"lr": 2e-4, "loraplus_lr_ratio": 16, "loraplus_weight_decay": 0.05, "betas": (0.9, 0.999)}
        return create_loraplus_optimizer(model, torch.optim.AdamW, **options)

    ours = _tensors(_train(tmp_path / "ours", recipe))
    _same(ours, _by_plain_trainer(recipe, tmp_path / "theirs", adapter=_lora(), optimizer=optimizer), 1e-4)
    plain = _tensors(_train(tmp_path / "plain", _recipe("optim.lr=2e-4", "optim.weight_decay=0.05")))
    name = next(name for name in ours if "lora_B" in name)
    assert ours[name].abs().mean() > 4 * plain[name].abs().mean()


def test_encoder_decoder_is_that_of_plain_transformers(tmp_path, small_t5):
    recipe = _recipe(f"model={small_t5}", "optim.lr=1e-2", "lora.targets=[q, v]")
    folder = _train(tmp_path / "ours", recipe)
    adapter = _lora(target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
    _same(_tensors(folder), _by_plain_trainer(recipe, tmp_path / "theirs", adapter=adapter), 1e-4)
    assert json.loads((folder / "adapter_config.json").read_text())["task_type"] == "SEQ_2_SEQ_LM"
    assert _record(folder)["architecture"] == "seq2seq"


@pytest.mark.parametrize("model", ["nano", "small_t5"])
def test_a_step_of_several_batches_is_that_of_one_batch_of_all_their_rows(tmp_path, small_t5, model):
    # transformers alone gives T5 twice the gradient with two batches a step.
    model = ["model=nano", "lora.targets=null"] if model == "nano" else [f"model={small_t5}", "lora.targets=[q, v]"]
    parts = _tensors(
        _train(tmp_path / "parts", _recipe(*model, "optim.batch=2", "optim.accumulate=3", "optim.lr=1e-3"))
    )
    whole = _tensors(_train(tmp_path / "whole", _recipe(*model, "optim.batch=6", "optim.lr=1e-3")))
    _same(parts, whole, 2e-5)


def test_full_training_is_that_of_plain_trl_and_is_a_model(tmp_path):
    recipe = _recipe("method=full", "optim.lr=1e-4")
    folder = _train(tmp_path, recipe)
    assert folder == tmp_path / "models" / "note"
    theirs = _by_plain_trainer(recipe, tmp_path / "theirs")
    loaded = load_model(resolve_model(str(folder), default_catalog()))
    ours = {name: tensor.detach() for name, tensor in loaded.model.named_parameters()}
    _same(ours, theirs, 1e-4)
    assert _moved(ours, recipe) > 1e-4
    assert loaded.tokenizer.chat_template
    config = json.loads((folder / "config.json").read_text())
    assert config["use_cache"] and "slmbench" not in json.dumps(config)
    record = _record(folder)
    assert record["trainable_parameters"] == record["base_parameters"]
    before = (folder / "model.safetensors").stat().st_mtime_ns
    _train(tmp_path, recipe)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_checkpointed_layers_give_the_same_adapter_and_only_where_asked_for(tmp_path):
    plain = _tensors(_train(tmp_path / "plain", _recipe()))
    spared = _tensors(_train(tmp_path / "spared", _recipe("optim.gradient_checkpointing=true")))
    _same(plain, spared, 1e-6)


def _watched(monkeypatch):
    """The trainers that are built, seen at the end of their training."""
    from slmbench.training import _train

    built = []
    real = _train.build_trainer

    def build(*args, **kwargs):
        built.append(real(*args, **kwargs))
        return built[-1]

    monkeypatch.setattr(_train, "build_trainer", build)
    return built


@pytest.mark.parametrize(
    ("packing", "layer", "label"), [("nf4", "Linear4bit", "nf4+double"), ("int8", "Linear8bitLt", "int8")]
)
def test_qlora_trains_float32_adapters_on_a_packed_base(tmp_path, monkeypatch, packing, layer, label):
    import torch

    built = _watched(monkeypatch)
    folder = _train(tmp_path, _recipe("method=qlora", f"quantization.type={packing}"))
    (trainer,) = built
    kinds = {type(module).__name__ for module in trainer.model.modules()}
    assert layer in kinds
    assert trainer.job.flat == (packing != "int8")  # Rows on an int8 base round otherwise in company.
    assert not trainer.model.get_base_model().is_gradient_checkpointing
    assert {tensor.dtype for tensor in _tensors(folder).values()} == {torch.float32}
    record = _record(folder)
    assert (record["method"], record["quantization"]) == ("qlora", label)
    dtype, held = held_as([str(folder)])
    assert (held.type, held.label) == (packing, label)
    nano = resolve_model("nano", default_catalog())
    attach_adapter(load_model(nano, dtype=dtype, quantization=held), str(folder))
    said = f"was trained on 'nano' packed as {re.escape(label)}, but 'nano' is here unpacked"
    with pytest.raises(UsageError, match=said):
        attach_adapter(load_model(nano), str(folder))


def test_updates_on_a_bfloat16_base_are_not_lost(tmp_path):
    import torch

    tuned = [_tensors(_train(tmp_path / lr, _recipe("dtype=bfloat16", f"optim.lr={lr}"))) for lr in ("1e-7", "2e-7")]
    assert {tensor.dtype for tensor in tuned[0].values()} == {torch.float32}
    first, second = (tensors[next(name for name in tensors if "lora_A" in name)] for tensors in tuned)
    far = (first - second).abs().max()
    assert 0 < far < 1e-5
    # In 16 bits there would be next to nothing to see.
    assert (first.bfloat16() == second.bfloat16()).float().mean() > 0.999


def test_adapter_config_is_the_one_that_peft_was_given(tmp_path):
    import peft

    folder = _train(tmp_path, _recipe("lora.targets=[q_proj, v_proj]", "lora.dropout=0.1", "lora.rslora=true"))
    config = peft.PeftConfig.from_pretrained(str(folder))
    assert config.target_modules == {"q_proj", "v_proj"}
    assert (config.r, config.lora_alpha, config.lora_dropout, config.use_rslora) == (16, 32, 0.1, True)
    assert config.inference_mode and config.base_model_name_or_path == "slmbench/nano"


def test_it_is_an_sfttrainer_without_its_costs(tmp_path, monkeypatch):
    import trl

    built = _watched(monkeypatch)
    _train(tmp_path, _recipe())
    (trainer,) = built
    assert isinstance(trainer, trl.SFTTrainer)
    assert "forward" not in vars(trainer.model.get_base_model())
    assert not {key for entry in trainer.state.log_history for key in entry} & {"entropy", "mean_token_accuracy"}


def test_a_plateaus_rates_are_those_of_torch_on_the_same_losses(tmp_path):
    import torch

    overrides = (
        "adapters.note.steps=14",
        "optim.schedule=plateau",
        "optim.plateau_patience=1",
        "optim.plateau_factor=0.25",
        "optim.lr=0.05",
        "optim.warmup_steps=4",
        "log_every_steps=1",
        "validation={rows: 8, every_steps: 1}",
    )
    curves = _record(_train(tmp_path, _recipe(*overrides)))["curves"]
    rates = [point["lr"] for point in curves["train"]]
    assert rates[:5] == pytest.approx([0, 0.0125, 0.025, 0.0375, 0.05])
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.05)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.25, patience=1)
    expected = []
    for point in curves["validation"][4:]:  # Looks during the warmup don't count.
        plateau.step(point["loss"])
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates[5:] == pytest.approx(expected[:-1])
    assert len(set(rates[4:])) > 1
