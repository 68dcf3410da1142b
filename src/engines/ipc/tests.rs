use super::*;

fn cancel(id: u64) -> ToWorker<String> {
    ToWorker::Cancel { id: RequestId(id) }
}

#[tokio::test]
async fn a_frame_comes_out_as_it_went_in_on_both_sides() {
    let body = "two words".to_owned();
    let request = ToWorker::Request {
        id: RequestId(7),
        priority: Priority::Waiting,
        body,
    };
    let samples = [0, 1, -1, i16::MAX, i16::MIN];
    let mut bytes = encode(&request, &samples_to_payload(&samples)).unwrap();
    bytes.extend(encode(&cancel(7), &[]).unwrap());

    let mut stream = bytes.as_slice();
    let first = read_frame(&mut stream).await.unwrap().unwrap();
    assert_eq!(payload_to_samples(&first.payload), samples);
    match first.message::<ToWorker<String>>().unwrap() {
        ToWorker::Request {
            id,
            priority: Priority::Waiting,
            body,
        } => {
            assert_eq!((id, body.as_str()), (RequestId(7), "two words"));
        }
        other => unreachable!("{other:?}"),
    }
    assert!(read_frame(&mut stream).await.unwrap().is_some());
    assert!(read_frame(&mut stream).await.unwrap().is_none());

    let mut stream = bytes.as_slice();
    assert_eq!(read_frame_blocking(&mut stream).unwrap(), Some(first));
    assert!(read_frame_blocking(&mut stream).unwrap().is_some());
    assert_eq!(read_frame_blocking(&mut stream).unwrap(), None);
}

#[tokio::test]
async fn lengths_beyond_the_bounds_are_refused_before_anything_is_allocated() {
    let too_much = |total: u32, header: u32| {
        let mut bytes = total.to_le_bytes().to_vec();
        bytes.extend(header.to_le_bytes());
        bytes
    };
    let header_bound = u32::try_from(MAX_HEADER_BYTES).unwrap();
    let payload_bound = u32::try_from(MAX_PAYLOAD_BYTES).unwrap();
    let hostile = [
        too_much(u32::MAX, 10),
        too_much(u32::MAX, u32::MAX),
        too_much(3, 0),
        too_much(10, 7),
        too_much(4 + header_bound + 1, header_bound + 1),
        too_much(4 + payload_bound + 1, 0),
    ];
    for bytes in hostile {
        let read = read_frame(&mut bytes.as_slice()).await;
        assert!(
            matches!(read, Err(FrameError::BadLength { .. })),
            "{bytes:?}"
        );
        let read = read_frame_blocking(&mut bytes.as_slice());
        assert!(
            matches!(read, Err(FrameError::BadLength { .. })),
            "{bytes:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_an_error_wherever_it_ends() {
    let bytes = encode(&cancel(1), &[1, 2, 3]).unwrap();
    for length in 1..bytes.len() {
        let read = read_frame(&mut &bytes[..length]).await;
        assert!(matches!(read, Err(FrameError::Io(_))), "{length}");
        let read = read_frame_blocking(&mut &bytes[..length]);
        assert!(matches!(read, Err(FrameError::Io(_))), "{length}");
    }
}

#[test]
fn an_oversized_message_is_refused_by_its_sender() {
    let header = "x".repeat(MAX_HEADER_BYTES);
    assert!(matches!(
        encode(&header, &[]),
        Err(FrameError::BadLength { .. })
    ));
    let payload = vec![0; MAX_PAYLOAD_BYTES + 1];
    assert!(matches!(
        encode(&1, &payload),
        Err(FrameError::BadLength { .. })
    ));
}

#[tokio::test]
async fn the_magic_is_found_behind_what_a_library_printed() {
    let mut output = b"loading \x01OFFHOO, nearly\n".to_vec();
    let printed = output.len();
    output.extend(MAGIC);
    output.extend(encode(&cancel(3), &[]).unwrap());
    let mut stream = output.as_slice();
    assert_eq!(skip_preamble(&mut stream).await.unwrap(), printed);
    assert!(read_frame(&mut stream).await.unwrap().is_some());
}

#[tokio::test]
async fn a_stream_without_magic_is_given_up() {
    let noise = vec![b'x'; MAX_PREAMBLE_BYTES + 100];
    assert!(matches!(
        skip_preamble(&mut noise.as_slice()).await,
        Err(FrameError::NoMagic)
    ));
    let short = b"Segmentation fault".as_slice();
    assert!(matches!(
        skip_preamble(&mut &short[..]).await,
        Err(FrameError::Io(_))
    ));
}
