package codec

// The methods of class basic.
type (
	// BasicQos is basic.qos.
	BasicQos struct {
		Size   uint32
		Count  uint16
		Global bool
	}
	// BasicQosOk is basic.qos-ok.
	BasicQosOk struct{}
	// BasicConsume is basic.consume.
	BasicConsume struct {
		Queue     string
		Tag       string
		NoLocal   bool
		NoAck     bool
		Exclusive bool
		NoWait    bool
		Arguments Table
	}
	// BasicConsumeOk is basic.consume-ok.
	BasicConsumeOk struct {
		Tag string
	}
	// BasicCancel is basic.cancel.
	BasicCancel struct {
		Tag    string
		NoWait bool
	}
	// BasicCancelOk is basic.cancel-ok.
	BasicCancelOk struct {
		Tag string
	}
	// BasicPublish is basic.publish.
	BasicPublish struct {
		Exchange  string
		Key       string
		Mandatory bool
		Immediate bool
	}
	// BasicReturn is basic.return.
	BasicReturn struct {
		Code     uint16
		Text     string
		Exchange string
		Key      string
	}
	// BasicDeliver is basic.deliver.
	BasicDeliver struct {
		Consumer    string
		Tag         uint64
		Redelivered bool
		Exchange    string
		Key         string
	}
	// BasicGet is basic.get.
	BasicGet struct {
		Queue string
		NoAck bool
	}
	// BasicGetOk is basic.get-ok.
	BasicGetOk struct {
		Tag         uint64
		Redelivered bool
		Exchange    string
		Key         string
		Messages    uint32
	}
	// BasicGetEmpty is basic.get-empty.
	BasicGetEmpty struct {
		ClusterID string
	}
	// BasicAck is basic.ack.
	BasicAck struct {
		Tag      uint64
		Multiple bool
	}
	// BasicReject is basic.reject.
	BasicReject struct {
		Tag     uint64
		Requeue bool
	}
	// BasicRecoverAsync is basic.recover-async.
	BasicRecoverAsync struct {
		Requeue bool
	}
	// BasicRecover is basic.recover.
	BasicRecover struct {
		Requeue bool
	}
	// BasicRecoverOk is basic.recover-ok.
	BasicRecoverOk struct{}
	// BasicNack is basic.nack.
	BasicNack struct {
		Tag      uint64
		Multiple bool
		Requeue  bool
	}
)

// ID is 60.10.
func (*BasicQos) ID() ID { return 60<<16 | 10 }

func (m *BasicQos) walk(c *coder) {
	c.u32(&m.Size)
	c.u16(&m.Count)
	c.bit(&m.Global)
}

// ID is 60.11.
func (*BasicQosOk) ID() ID { return 60<<16 | 11 }

func (*BasicQosOk) walk(*coder) {}

// ID is 60.20.
func (*BasicConsume) ID() ID { return 60<<16 | 20 }

func (m *BasicConsume) walk(c *coder) {
	c.reserved()
	c.name(&m.Queue)
	c.name(&m.Tag)
	c.bit(&m.NoLocal, &m.NoAck, &m.Exclusive, &m.NoWait)
	c.table(&m.Arguments)
}

// ID is 60.21.
func (*BasicConsumeOk) ID() ID { return 60<<16 | 21 }

func (m *BasicConsumeOk) walk(c *coder) {
	c.name(&m.Tag)
}

// ID is 60.30.
func (*BasicCancel) ID() ID { return 60<<16 | 30 }

func (m *BasicCancel) walk(c *coder) {
	c.name(&m.Tag)
	c.bit(&m.NoWait)
}

// ID is 60.31.
func (*BasicCancelOk) ID() ID { return 60<<16 | 31 }

func (m *BasicCancelOk) walk(c *coder) {
	c.name(&m.Tag)
}

// ID is 60.40.
func (*BasicPublish) ID() ID { return 60<<16 | 40 }

func (m *BasicPublish) walk(c *coder) {
	c.reserved()
	c.short(&m.Exchange) // RabbitMQ does not validate the strings of methods with content
	c.short(&m.Key)
	c.bit(&m.Mandatory, &m.Immediate)
}

// ID is 60.50.
func (*BasicReturn) ID() ID { return 60<<16 | 50 }

func (m *BasicReturn) walk(c *coder) {
	c.u16(&m.Code)
	c.short(&m.Text)
	c.short(&m.Exchange)
	c.short(&m.Key)
}

// ID is 60.60.
func (*BasicDeliver) ID() ID { return 60<<16 | 60 }

func (m *BasicDeliver) walk(c *coder) {
	c.short(&m.Consumer)
	c.u64(&m.Tag)
	c.bit(&m.Redelivered)
	c.short(&m.Exchange)
	c.short(&m.Key)
}

// ID is 60.70.
func (*BasicGet) ID() ID { return 60<<16 | 70 }

func (m *BasicGet) walk(c *coder) {
	c.reserved()
	c.name(&m.Queue)
	c.bit(&m.NoAck)
}

// ID is 60.71.
func (*BasicGetOk) ID() ID { return 60<<16 | 71 }

func (m *BasicGetOk) walk(c *coder) {
	c.u64(&m.Tag)
	c.bit(&m.Redelivered)
	c.short(&m.Exchange)
	c.short(&m.Key)
	c.u32(&m.Messages)
}

// ID is 60.72.
func (*BasicGetEmpty) ID() ID { return 60<<16 | 72 }

func (m *BasicGetEmpty) walk(c *coder) {
	c.name(&m.ClusterID)
}

// ID is 60.80.
func (*BasicAck) ID() ID { return 60<<16 | 80 }

func (m *BasicAck) walk(c *coder) {
	c.u64(&m.Tag)
	c.bit(&m.Multiple)
}

// ID is 60.90.
func (*BasicReject) ID() ID { return 60<<16 | 90 }

func (m *BasicReject) walk(c *coder) {
	c.u64(&m.Tag)
	c.bit(&m.Requeue)
}

// ID is 60.100.
func (*BasicRecoverAsync) ID() ID { return 60<<16 | 100 }

func (m *BasicRecoverAsync) walk(c *coder) {
	c.bit(&m.Requeue)
}

// ID is 60.110.
func (*BasicRecover) ID() ID { return 60<<16 | 110 }

func (m *BasicRecover) walk(c *coder) {
	c.bit(&m.Requeue)
}

// ID is 60.111.
func (*BasicRecoverOk) ID() ID { return 60<<16 | 111 }

func (*BasicRecoverOk) walk(*coder) {}

// ID is 60.120.
func (*BasicNack) ID() ID { return 60<<16 | 120 }

func (m *BasicNack) walk(c *coder) {
	c.u64(&m.Tag)
	c.bit(&m.Multiple, &m.Requeue)
}
