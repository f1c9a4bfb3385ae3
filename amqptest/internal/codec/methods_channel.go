package codec

// The methods of the classes channel, access, confirm and tx.
type (
	// ChannelOpen is channel.open.
	ChannelOpen struct {
		OutOfBand string
	}
	// ChannelOpenOk is channel.open-ok.
	ChannelOpenOk struct {
		ChannelID []byte
	}
	// ChannelFlow is channel.flow.
	ChannelFlow struct {
		Active bool
	}
	// ChannelFlowOk is channel.flow-ok.
	ChannelFlowOk struct {
		Active bool
	}
	// ChannelClose is channel.close.
	ChannelClose struct {
		Code   uint16
		Text   string
		Class  uint16
		Method uint16
	}
	// ChannelCloseOk is channel.close-ok.
	ChannelCloseOk struct{}
	// AccessRequest is access.request.
	AccessRequest struct {
		Realm     string
		Exclusive bool
		Passive   bool
		Active    bool
		Write     bool
		Read      bool
	}
	// AccessRequestOk is access.request-ok.
	AccessRequestOk struct {
		Ticket uint16
	}
	// ConfirmSelect is confirm.select.
	ConfirmSelect struct {
		NoWait bool
	}
	// ConfirmSelectOk is confirm.select-ok.
	ConfirmSelectOk struct{}
	// TxSelect is tx.select.
	TxSelect struct{}
	// TxSelectOk is tx.select-ok.
	TxSelectOk struct{}
	// TxCommit is tx.commit.
	TxCommit struct{}
	// TxCommitOk is tx.commit-ok.
	TxCommitOk struct{}
	// TxRollback is tx.rollback.
	TxRollback struct{}
	// TxRollbackOk is tx.rollback-ok.
	TxRollbackOk struct{}
)

// ID is 20.10.
func (*ChannelOpen) ID() ID { return 20<<16 | 10 }

func (m *ChannelOpen) walk(c *coder) {
	c.name(&m.OutOfBand)
}

// ID is 20.11.
func (*ChannelOpenOk) ID() ID { return 20<<16 | 11 }

func (m *ChannelOpenOk) walk(c *coder) {
	c.long(&m.ChannelID)
}

// ID is 20.20.
func (*ChannelFlow) ID() ID { return 20<<16 | 20 }

func (m *ChannelFlow) walk(c *coder) {
	c.bit(&m.Active)
}

// ID is 20.21.
func (*ChannelFlowOk) ID() ID { return 20<<16 | 21 }

func (m *ChannelFlowOk) walk(c *coder) {
	c.bit(&m.Active)
}

// ID is 20.40.
func (*ChannelClose) ID() ID { return 20<<16 | 40 }

func (m *ChannelClose) walk(c *coder) {
	c.u16(&m.Code)
	c.name(&m.Text)
	c.u16(&m.Class)
	c.u16(&m.Method)
}

// ID is 20.41.
func (*ChannelCloseOk) ID() ID { return 20<<16 | 41 }

func (*ChannelCloseOk) walk(*coder) {}

// ID is 30.10.
func (*AccessRequest) ID() ID { return 30<<16 | 10 }

func (m *AccessRequest) walk(c *coder) {
	c.name(&m.Realm)
	c.bit(&m.Exclusive, &m.Passive, &m.Active, &m.Write, &m.Read)
}

// ID is 30.11.
func (*AccessRequestOk) ID() ID { return 30<<16 | 11 }

func (m *AccessRequestOk) walk(c *coder) {
	c.u16(&m.Ticket)
}

// ID is 85.10.
func (*ConfirmSelect) ID() ID { return 85<<16 | 10 }

func (m *ConfirmSelect) walk(c *coder) {
	c.bit(&m.NoWait)
}

// ID is 85.11.
func (*ConfirmSelectOk) ID() ID { return 85<<16 | 11 }

func (*ConfirmSelectOk) walk(*coder) {}

// ID is 90.10.
func (*TxSelect) ID() ID { return 90<<16 | 10 }

func (*TxSelect) walk(*coder) {}

// ID is 90.11.
func (*TxSelectOk) ID() ID { return 90<<16 | 11 }

func (*TxSelectOk) walk(*coder) {}

// ID is 90.20.
func (*TxCommit) ID() ID { return 90<<16 | 20 }

func (*TxCommit) walk(*coder) {}

// ID is 90.21.
func (*TxCommitOk) ID() ID { return 90<<16 | 21 }

func (*TxCommitOk) walk(*coder) {}

// ID is 90.30.
func (*TxRollback) ID() ID { return 90<<16 | 30 }

func (*TxRollback) walk(*coder) {}

// ID is 90.31.
func (*TxRollbackOk) ID() ID { return 90<<16 | 31 }

func (*TxRollbackOk) walk(*coder) {}
