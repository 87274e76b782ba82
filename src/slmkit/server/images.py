"""Images of requests: what a URL may be, and those of the web fetched where that was allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from slmkit.request import Message
from slmkit.server.faults import Fault
from slmkit.server.service import Service
from slmkit.untrusted import shown
from slmkit.vision.fetch import Fetching, fetch
from slmkit.vision.picture import MOST_BYTES


async def with_images(messages: Sequence[Message], service: Service) -> tuple[Message, ...]:
    """The messages with the bytes of images in place of http(s) URLs.   Raises Fault where nothing may be fetched."""
    return tuple([replace(m, images=tuple([await _image(image, service) for image in m.images])) for m in messages])


async def _image(image: Any, service: Service) -> Any:
    if not isinstance(image, str) or not image.lower().startswith(("http://", "https://")):
        return image
    if not service.options.image_urls:
        raise Fault(
            400,
            f"{shown(image)} would have to be fetched, which this server does not do; send the image as a data URL, or "
            "start the server with --image-urls",
            "invalid_image_url",
        )
    rules = Fetching(private=bool(service.load_options.private_urls))
    return await asyncio.to_thread(fetch, image, MOST_BYTES, rules)
