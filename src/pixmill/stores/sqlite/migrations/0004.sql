-- Which key has taken over what belonged to this one, or to one that this one had taken over.
ALTER TABLE keys ADD COLUMN successor TEXT;
