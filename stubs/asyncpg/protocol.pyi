class Protocol:
    def __init__(
        self,
        addr: object,
        connected_fut: object,
        con_params: object,
        record_class: type,
        loop: object,
    ) -> None: ...
