"""``POST /api/upload``: hand over a CSV."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
