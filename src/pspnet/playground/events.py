"""How handlers are tied to the page: small ones, heavy ones, ones that watch; and what a reload brings back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pspnet.errors import require
from pspnet.playground.error_messages import told

gr = require("gradio", "playground")

REFRESH_S = 1.5
SECRET = "pspnet playground"  # Gradio scrambles what it keeps in a browser; a key of each server's own would forget it
# the browser alone writes what its fields hold; not before what it had kept stands in them again
KEEP = (
    "(before, ...values) => window.choicesAreBack ? Object.fromEntries(%s.map((name, i) => [name, values[i]])) : before"
)


class Events:
    """Ties handlers to a page (Blocks) that is being made. Each handler's errors reach the page as words (`told`)."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self._at_load: list[dict[str, Any]] = []
        self._choices: dict[str, tuple[Any, Callable[[Any], bool]]] = {}
        self._states: dict[str, Any] = {}

    def light(
        self, trigger: Callable[..., Any], handler: Any, inputs: Any, outputs: Any, api: str | bool = False, **more: Any
    ) -> Any:
        """A handler that answers at once. api: its name for clients."""
        return trigger(told(handler), inputs, outputs, show_progress="hidden", api_name=api, **more)

    def heavy(self, trigger: Callable[..., Any], handler: Any, inputs: Any, outputs: Sequence[Any], api: str) -> Any:
        """A handler that computes, two of them at once; its progress is shown over the first output."""
        return trigger(
            told(handler),
            inputs,
            outputs,
            show_progress="minimal",
            show_progress_on=[outputs[0]],
            api_name=api,
            concurrency_id="heavy",
            concurrency_limit=2,
        )

    def watch(self, handler: Any, inputs: Any, outputs: Any, api: str, every: int = 1) -> None:
        """A handler that is called when the page is loaded, and each `every` x REFRESH_S from then on."""
        self.at_load(handler, inputs, outputs)
        self.light(gr.Timer(every * REFRESH_S).tick, handler, inputs, outputs, api)

    def at_load(self, handler: Any, inputs: Any, outputs: Any, **more: Any) -> None:
        """A handler that is called when the page is loaded and what was chosen before stands in it again."""
        self._at_load.append({"fn": told(handler), "inputs": inputs, "outputs": outputs, **more})

    def keep(self, choices: Mapping[str, Any], valid: Callable[[Any], bool] = lambda _: True) -> None:
        """Components (by name) whose values a reload brings back, as far as they are valid then."""
        self._choices |= {name: (component, valid) for name, component in choices.items()}

    def keep_state(self, name: str, state: Any) -> None:
        """A State that a reload brings back: a dict."""
        in_browser = gr.BrowserState({}, storage_key=f"pspnet {name}", secret=SECRET)
        state.change(lambda value: value, state, in_browser, show_progress="hidden", api_name=False)
        self._states[name] = (state, in_browser)

    def finish(self) -> None:
        """Once every place is there: what the browser kept comes back, then the handlers of the load follow."""
        in_browser = gr.BrowserState({}, storage_key="pspnet choices", secret=SECRET)
        components = [component for component, _ in self._choices.values()]
        states = [*self._states.values()]

        def bring_back(values: Any, *of_states: Any) -> list[Any]:
            changes = brought_back(values, {name: valid for name, (_, valid) in self._choices.items()})
            return [*changes, *(value if isinstance(value, dict) and value else gr.skip() for value in of_states)]

        back = self.page.load(
            told(bring_back),
            [in_browser, *(stored for _, stored in states)],
            [*components, *(state for state, _ in states)],
            show_progress="hidden",
            api_name=False,
        ).then(None, js="() => { window.choicesAreBack = true; }")
        for event in self._at_load:
            back.then(**{"show_progress": "hidden", "api_name": False, **event})
        gr.on(
            [component.change for component in components],
            None,
            [in_browser, *components],
            in_browser,
            js=KEEP % json.dumps([*self._choices]),
            show_progress="hidden",
            api_name=False,
        )


def brought_back(values: Any, valid: Mapping[str, Callable[[Any], bool]]) -> list[Any]:
    """What the browser kept (name -> value, or anything: a browser is not trusted) as changes of the components named."""
    values = values if isinstance(values, dict) else {}
    return [
        gr.update(value=values[name]) if name in values and is_valid(values[name]) else gr.skip()
        for name, is_valid in valid.items()
    ]


def counted(progress: Any, words: str) -> Callable[[int, int], None]:
    """(done, total) as Gradio's progress, with words."""
    return lambda done, total: progress((done, total), desc=words)


def changed(now: Mapping[str, Any], before: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """The values of names that differ from before; what is shown already is not sent again."""
    return [now[name] if before.get(name) != now[name] else gr.skip() for name in names]
