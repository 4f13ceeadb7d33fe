"""The book's recurring words in each of its languages, and the Chinese of what records say."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from dlnotes.errors import UserError

TRANSLATIONS = Path(__file__).parents[2] / "docs" / "zh" / "translations.yaml"
"""English of the records → Chinese."""
REPHRASINGS = Path(__file__).parents[2] / "docs" / "en" / "rephrasings.yaml"
"""English of the records → how the book says it, where that differs."""

LANGUAGES = {"en": "en", "zh": "zh_CN"}
"""Folder of pages → Sphinx's name of the language."""

ZH: dict[str, str] = {
    "ours": "本书实现",
    "compared with": "对照",
    "arguments": "参数对应",
    "cases": "组数",
    "largest difference": "最大相对差",
    "allowed": "容差",
    "tensors": "张量",
    "timed": "所测内容",
    "ours, µs": "本书，微秒",
    "torch, µs": "torch，微秒",
    "ours, ms": "本书，毫秒",
    "torch default, ms": "torch 默认，毫秒",
    "torch fused, ms": "torch fused，毫秒",
    "default / ours": "默认 / 本书",
    "fused / ours": "fused / 本书",
    "holds": "成立",
    "holds only if": "有条件成立",
    "does not hold": "不成立",
    "not decided": "无定论",
    "What was tested": "检验的假设和判断标准",
    "Effect": "效应",
    "runs": "次训练",
    "Exercise": "练习",
    "Answer": "答案",
    "Download this page as a notebook": "下载本页的 notebook",
    "The figure of this section is interactive on the book's page; here it is a picture.": (
        "本节的图在本书的网页上可以交互，这里是静态图。"
    ),
    "{text} ({title})": "{text}（{title}）",
    "Table": "表格",
    "Code": "代码",
    "Formula": "公式",
    (
        "The formulas of this page are drawn by JavaScript, which comes with the page. Without it, "
        "you see their TeX source."
    ): "本页的公式由随网页提供的 JavaScript 绘制；不启用时，显示的是公式的 TeX 源码。",
    "learning rate α": "学习率 α",
    "momentum β": "动量系数 β",
    "steps t": "步数 t",
    "After": "走了",
    "steps": "步之后",
    "moves away from the minimum": "离最小点越来越远",
    "arrived": "已到达最小点",
    "same α without momentum": "相同 α，无动量",
    "start": "起点",
    "minimum": "最小点",
    "Start again": "恢复初值",
    "target 1": "目标为 1",
    "target 0": "目标为 0",
    "output 1": "输出为 1",
    "wrong": "分错",
    "next sample": "下一个样本",
    "function": "函数",
    "weight w₁": "权重 w₁",
    "weight w₂": "权重 w₂",
    "bias b": "偏置 b",
    "Show one sample": "学习一个样本",
    "Show all four": "学习全部四个",
    "{n} of 4 outputs are correct.": "4 个输出中有 {n} 个正确。",
    "Sample ({x}): the output was {a}, the target is {y}.": "样本 ({x})：输出为 {a}，目标为 {y}。",
    "activation": "激活函数",
    "none": "无",
    "weights s": "权重尺度 s",
    "layers L": "层数 L",
    "layer l": "层 l",
    "|δₗ| / |δ| of the last layer": "|δₗ| 与末层 |δ| 之比",
    "The gradient of layer 1 is {n} times that of layer {L}: it vanishes.": (
        "第 1 层的梯度是第 {L} 层的 {n} 倍：梯度消失。"
    ),
    "The gradient of layer 1 is {n} times that of layer {L}: it explodes.": (
        "第 1 层的梯度是第 {L} 层的 {n} 倍：梯度爆炸。"
    ),
    "The gradient of layer 1 is {n} times that of layer {L}: it neither vanishes nor explodes.": (
        "第 1 层的梯度是第 {L} 层的 {n} 倍：既没有消失，也没有爆炸。"
    ),
    "surface": "曲面",
    "ravine": "峡谷",
    "Rosenbrock's valley": "Rosenbrock 山谷",
    "Beale's function": "Beale 函数",
    "saddle": "鞍点",
    "Play": "播放",
    "Pause": "暂停",
    "learning rate of": "调整谁的学习率",
    "all rules": "全部规则",
    "× its best rate": "最佳学习率的倍数",
    "rule": "规则",
    "height above the minimum": "高出最小值",
    ": the lowest is": "，最低的是",
    "ours / torch": "本书 / torch",
    "both compiled": "两者都编译",
    "tangent": "切线",
    "The curve of {name}, its slope as a dashed curve, and the tangent at a point.": (
        "{name} 的曲线，虚线是它的斜率，另有一条过某点的切线。"
    ),
    "in the notes": "笔记中的",
    "others": "其他",
    "corpus": "语料",
    "ours, documents/s": "本书，篇/秒",
    "torch, documents/s": "torch，篇/秒",
    "question": "问题",
    "model": "模型",
    "attention": "注意力",
    "head": "注意力头",
    "mean of the heads": "各头平均",
    "words left out": "逐词去掉",
    "The number below a word is its weight; the weights of a question add up to 1.": (
        "词下方的数字是它的权重，一个问题中各词的权重之和为 1。"
    ),
    (
        "The number below a word is what it adds to the log-odds of the label: blue speaks for the "
        "label, orange against it."
    ): "词下方的数字是它给标签的对数几率带来的增量：蓝色支持该标签，橙色反对该标签。",
    "an abbreviation": "缩写",
    "a description": "描述",
    "a thing": "事物",
    "a person": "人",
    "a place": "地点",
    "a number": "数字",
}
"""English → Chinese, of what directives write into a page."""

HEADINGS: dict[str, str] = {
    "The idea": "直观理解",
    "The formula": "公式",
    "The code": "代码",
    "See it move": "动手看一看",
    "Run it and change it": "运行并修改",
    "Is it correct?": "是否正确",
    "Is it fast?": "是否够快",
    "What the notes claim": "笔记中的论断",
    "Common mistakes": "常见错误",
    "Exercises": "练习",
}
"""The sections of a chapter, English → Chinese, in their order. It may have others, too."""

MANDATORY = (
    "The idea",
    "Run it and change it",
    "What the notes claim",
    "Common mistakes",
    "Exercises",
)
"""The sections that every chapter has."""


def say(text: str, language: str) -> str:
    """One of the book's words in a language.

    Args:
        text: The English.
        language: Sphinx's name of the language.

    Raises:
        UserError: There is no translation.
    """
    if not language.startswith("zh"):
        return text
    if text not in ZH:
        raise UserError(f"scripts/chapters/words.py has no Chinese for {text!r}")
    return ZH[text]


def translate(text: str, language: str, file: Path | None = None) -> str:
    """A sentence of the records in a language.

    Args:
        text: The English, as the record has it.
        language: Sphinx's name of the language.
        file: YAML with the record's English as keys. The default is `TRANSLATIONS` for Chinese,
            and `REPHRASINGS` for English, which has only some sentences.

    Raises:
        UserError: The Chinese is missing: the record has changed, or is new.
    """
    zh = language.startswith("zh")
    file = file or (TRANSLATIONS if zh else REPHRASINGS)
    known = _sentences(file)
    if not text or text in known:
        return known.get(text, text)
    if zh:
        raise UserError(f"{file.name} has no translation of the record's {text!r}")
    return text


def measured(number: str, name: str, language: str) -> str:
    """A measured number and what it is.

    Args:
        number: As the reader sees it.
        name: The effect, as the record has it. Where its translation has "{}", the number is put
            in; else the name follows in parentheses.
        language: Sphinx's name of the language.
    """
    told = translate(name, language)
    if "{}" in told:
        return told.replace("{}", number)
    return f"{number}（{told}）" if language.startswith("zh") else f"{number} ({told})"


@cache
def _sentences(file: Path) -> dict[str, str]:
    loaded: dict[str, str] = yaml.safe_load(file.read_text("utf-8"))
    return loaded
