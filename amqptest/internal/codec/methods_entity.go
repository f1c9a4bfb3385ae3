package codec

// The methods of the classes exchange and queue.
type (
	// ExchangeDeclare is exchange.declare.
	ExchangeDeclare struct {
		Exchange   string
		Type       string
		Passive    bool
		Durable    bool
		AutoDelete bool
		Internal   bool
		NoWait     bool
		Arguments  Table
	}
	// ExchangeDeclareOk is exchange.declare-ok.
	ExchangeDeclareOk struct{}
	// ExchangeDelete is exchange.delete.
	ExchangeDelete struct {
		Exchange string
		IfUnused bool
		NoWait   bool
	}
	// ExchangeDeleteOk is exchange.delete-ok.
	ExchangeDeleteOk struct{}
	// ExchangeBind is exchange.bind.
	ExchangeBind struct {
		Destination string
		Source      string
		Key         string
		NoWait      bool
		Arguments   Table
	}
	// ExchangeBindOk is exchange.bind-ok.
	ExchangeBindOk struct{}
	// ExchangeUnbind is exchange.unbind.
	ExchangeUnbind struct {
		Destination string
		Source      string
		Key         string
		NoWait      bool
		Arguments   Table
	}
	// ExchangeUnbindOk is exchange.unbind-ok.
	ExchangeUnbindOk struct{}
	// QueueDeclare is queue.declare.
	QueueDeclare struct {
		Queue      string
		Passive    bool
		Durable    bool
		Exclusive  bool
		AutoDelete bool
		NoWait     bool
		Arguments  Table
	}
	// QueueDeclareOk is queue.declare-ok.
	QueueDeclareOk struct {
		Queue     string
		Messages  uint32
		Consumers uint32
	}
	// QueueBind is queue.bind.
	QueueBind struct {
		Queue     string
		Exchange  string
		Key       string
		NoWait    bool
		Arguments Table
	}
	// QueueBindOk is queue.bind-ok.
	QueueBindOk struct{}
	// QueuePurge is queue.purge.
	QueuePurge struct {
		Queue  string
		NoWait bool
	}
	// QueuePurgeOk is queue.purge-ok.
	QueuePurgeOk struct {
		Messages uint32
	}
	// QueueDelete is queue.delete.
	QueueDelete struct {
		Queue    string
		IfUnused bool
		IfEmpty  bool
		NoWait   bool
	}
	// QueueDeleteOk is queue.delete-ok.
	QueueDeleteOk struct {
		Messages uint32
	}
	// QueueUnbind is queue.unbind.
	QueueUnbind struct {
		Queue     string
		Exchange  string
		Key       string
		Arguments Table
	}
	// QueueUnbindOk is queue.unbind-ok.
	QueueUnbindOk struct{}
)

// ID is 40.10.
func (*ExchangeDeclare) ID() ID { return 40<<16 | 10 }

func (m *ExchangeDeclare) walk(c *coder) {
	c.reserved()
	c.name(&m.Exchange)
	c.name(&m.Type)
	c.bit(&m.Passive, &m.Durable, &m.AutoDelete, &m.Internal, &m.NoWait)
	c.table(&m.Arguments)
}

// ID is 40.11.
func (*ExchangeDeclareOk) ID() ID { return 40<<16 | 11 }

func (*ExchangeDeclareOk) walk(*coder) {}

// ID is 40.20.
func (*ExchangeDelete) ID() ID { return 40<<16 | 20 }

func (m *ExchangeDelete) walk(c *coder) {
	c.reserved()
	c.name(&m.Exchange)
	c.bit(&m.IfUnused, &m.NoWait)
}

// ID is 40.21.
func (*ExchangeDeleteOk) ID() ID { return 40<<16 | 21 }

func (*ExchangeDeleteOk) walk(*coder) {}

// ID is 40.30.
func (*ExchangeBind) ID() ID { return 40<<16 | 30 }

func (m *ExchangeBind) walk(c *coder) {
	c.reserved()
	c.name(&m.Destination)
	c.name(&m.Source)
	c.name(&m.Key)
	c.bit(&m.NoWait)
	c.table(&m.Arguments)
}

// ID is 40.31.
func (*ExchangeBindOk) ID() ID { return 40<<16 | 31 }

func (*ExchangeBindOk) walk(*coder) {}

// ID is 40.40.
func (*ExchangeUnbind) ID() ID { return 40<<16 | 40 }

func (m *ExchangeUnbind) walk(c *coder) {
	c.reserved()
	c.name(&m.Destination)
	c.name(&m.Source)
	c.name(&m.Key)
	c.bit(&m.NoWait)
	c.table(&m.Arguments)
}

// ID is 40.51.
func (*ExchangeUnbindOk) ID() ID { return 40<<16 | 51 }

func (*ExchangeUnbindOk) walk(*coder) {}

// ID is 50.10.
func (*QueueDeclare) ID() ID { return 50<<16 | 10 }

func (m *QueueDeclare) walk(c *coder) {
	c.reserved()
	c.name(&m.Queue)
	c.bit(&m.Passive, &m.Durable, &m.Exclusive, &m.AutoDelete, &m.NoWait)
	c.table(&m.Arguments)
}

// ID is 50.11.
func (*QueueDeclareOk) ID() ID { return 50<<16 | 11 }

func (m *QueueDeclareOk) walk(c *coder) {
	c.name(&m.Queue)
	c.u32(&m.Messages)
	c.u32(&m.Consumers)
}

// ID is 50.20.
func (*QueueBind) ID() ID { return 50<<16 | 20 }

func (m *QueueBind) walk(c *coder) {
	c.reserved()
	c.name(&m.Queue)
	c.name(&m.Exchange)
	c.name(&m.Key)
	c.bit(&m.NoWait)
	c.table(&m.Arguments)
}

// ID is 50.21.
func (*QueueBindOk) ID() ID { return 50<<16 | 21 }

func (*QueueBindOk) walk(*coder) {}

// ID is 50.30.
func (*QueuePurge) ID() ID { return 50<<16 | 30 }

func (m *QueuePurge) walk(c *coder) {
	c.reserved()
	c.name(&m.Queue)
	c.bit(&m.NoWait)
}

// ID is 50.31.
func (*QueuePurgeOk) ID() ID { return 50<<16 | 31 }

func (m *QueuePurgeOk) walk(c *coder) {
	c.u32(&m.Messages)
}

// ID is 50.40.
func (*QueueDelete) ID() ID { return 50<<16 | 40 }

func (m *QueueDelete) walk(c *coder) {
	c.reserved()
	c.name(&m.Queue)
	c.bit(&m.IfUnused, &m.IfEmpty, &m.NoWait)
}

// ID is 50.41.
func (*QueueDeleteOk) ID() ID { return 50<<16 | 41 }

func (m *QueueDeleteOk) walk(c *coder) {
	c.u32(&m.Messages)
}

// ID is 50.50.
func (*QueueUnbind) ID() ID { return 50<<16 | 50 }

func (m *QueueUnbind) walk(c *coder) {
	c.reserved()
	c.name(&m.Queue)
	c.name(&m.Exchange)
	c.name(&m.Key)
	c.table(&m.Arguments)
}

// ID is 50.51.
func (*QueueUnbindOk) ID() ID { return 50<<16 | 51 }

func (*QueueUnbindOk) walk(*coder) {}
