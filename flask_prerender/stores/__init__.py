"""Where pages live. Each store fulfils :class:`flask_prerender.stores.base.Store`."""
